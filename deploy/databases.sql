-- A database for each service, a login role that serves it, and one that owns its tables, for migrations; nobody else can
-- connect to it. What who serves may do is granted by `migrate` (docs/security.md).
-- psql -v orchestrator_password=… -v orchestrator_owner_password=… -v streak_password=… … -f databases.sql
\set ON_ERROR_STOP on
CREATE ROLE laurel_orchestrator LOGIN PASSWORD :'orchestrator_password';
CREATE ROLE laurel_orchestrator_owner LOGIN PASSWORD :'orchestrator_owner_password';
CREATE ROLE laurel_streak LOGIN PASSWORD :'streak_password';
CREATE ROLE laurel_streak_owner LOGIN PASSWORD :'streak_owner_password';
CREATE ROLE laurel_achievement LOGIN PASSWORD :'achievement_password';
CREATE ROLE laurel_achievement_owner LOGIN PASSWORD :'achievement_owner_password';
CREATE ROLE laurel_points LOGIN PASSWORD :'points_password';
CREATE ROLE laurel_points_owner LOGIN PASSWORD :'points_owner_password';
CREATE ROLE laurel_leaderboard LOGIN PASSWORD :'leaderboard_password';
CREATE ROLE laurel_leaderboard_owner LOGIN PASSWORD :'leaderboard_owner_password';
CREATE ROLE laurel_notification LOGIN PASSWORD :'notification_password';
CREATE ROLE laurel_notification_owner LOGIN PASSWORD :'notification_owner_password';
CREATE DATABASE laurel_orchestrator OWNER laurel_orchestrator_owner;
CREATE DATABASE laurel_streak OWNER laurel_streak_owner;
CREATE DATABASE laurel_achievement OWNER laurel_achievement_owner;
CREATE DATABASE laurel_points OWNER laurel_points_owner;
CREATE DATABASE laurel_leaderboard OWNER laurel_leaderboard_owner;
CREATE DATABASE laurel_notification OWNER laurel_notification_owner;
REVOKE ALL ON DATABASE laurel_orchestrator, laurel_streak, laurel_achievement, laurel_points,
    laurel_leaderboard, laurel_notification FROM PUBLIC;
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE laurel_orchestrator TO laurel_orchestrator;
GRANT CONNECT ON DATABASE laurel_streak TO laurel_streak;
GRANT CONNECT ON DATABASE laurel_achievement TO laurel_achievement;
GRANT CONNECT ON DATABASE laurel_points TO laurel_points;
GRANT CONNECT ON DATABASE laurel_leaderboard TO laurel_leaderboard;
GRANT CONNECT ON DATABASE laurel_notification TO laurel_notification;
