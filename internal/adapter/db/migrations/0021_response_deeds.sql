-- +goose Up

-- What was done about threats, by people and by rules. standing is 1 while a deed is
-- under way, or holds until it is undone. body is JSON.
CREATE TABLE response_deeds (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    deed     TEXT    NOT NULL UNIQUE,
    standing INTEGER NOT NULL,
    body     TEXT    NOT NULL
);
CREATE INDEX response_deeds_standing ON response_deeds (standing, id);

-- +goose Down
DROP TABLE response_deeds;
