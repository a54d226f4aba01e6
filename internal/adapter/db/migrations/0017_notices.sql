-- +goose Up

-- How grave a notice is of something that happens, as an incident is; 0 where it
-- may wait, as what is found in an image.
ALTER TABLE notices ADD COLUMN urgency INTEGER NOT NULL DEFAULT 0;

-- Ids of what was told, or would have been had somebody wanted it: the newest, so
-- that nothing is told twice.
CREATE TABLE notices_heard (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id     TEXT    NOT NULL
);
CREATE UNIQUE INDEX notices_heard_id ON notices_heard (id);

-- Notifications that were given up: by age (number), and by target.
CREATE TABLE notifications_dead (
    number   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL,
    target   INTEGER NOT NULL,
    notices  INTEGER NOT NULL,
    created  BIGINT  NOT NULL,
    died     BIGINT  NOT NULL,
    tries    INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    title    TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    remedy   TEXT    NOT NULL,
    body     BLOB    NOT NULL
);
CREATE UNIQUE INDEX notifications_dead_id ON notifications_dead (id);
CREATE INDEX notifications_dead_target ON notifications_dead (target, number);

-- +goose Down
DROP TABLE notifications_dead;
DROP TABLE notices_heard;
ALTER TABLE notices DROP COLUMN urgency;
