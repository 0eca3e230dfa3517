-- The history of completions is listed by time: of a user, and of an achievement.
CREATE INDEX completion_facts_of_user ON completion_facts (user_id, fact_time, completion_id, kind);
CREATE INDEX completion_facts_of_achievement ON completion_facts (achievement, fact_time, completion_id, kind);
DROP INDEX completion_facts_achievement;
