-- Whether something of a user is being voided: one void of a user after the other.
CREATE INDEX sagas_voiding ON sagas (user_id) WHERE state = 5;
