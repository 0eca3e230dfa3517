-- A database and a login role for each service; nobody else can connect to it.
-- psql -v orchestrator_password=… -v streak_password=… … -f databases.sql
\set ON_ERROR_STOP on
CREATE ROLE laurel_orchestrator LOGIN PASSWORD :'orchestrator_password';
CREATE ROLE laurel_streak LOGIN PASSWORD :'streak_password';
CREATE ROLE laurel_achievement LOGIN PASSWORD :'achievement_password';
CREATE ROLE laurel_points LOGIN PASSWORD :'points_password';
CREATE ROLE laurel_leaderboard LOGIN PASSWORD :'leaderboard_password';
CREATE ROLE laurel_notification LOGIN PASSWORD :'notification_password';
CREATE DATABASE laurel_orchestrator OWNER laurel_orchestrator;
CREATE DATABASE laurel_streak OWNER laurel_streak;
CREATE DATABASE laurel_achievement OWNER laurel_achievement;
CREATE DATABASE laurel_points OWNER laurel_points;
CREATE DATABASE laurel_leaderboard OWNER laurel_leaderboard;
CREATE DATABASE laurel_notification OWNER laurel_notification;
REVOKE CONNECT ON DATABASE laurel_orchestrator, laurel_streak, laurel_achievement, laurel_points,
    laurel_leaderboard, laurel_notification, postgres, template1 FROM PUBLIC;
