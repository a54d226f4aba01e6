-- +goose Up

-- What comparisons of images brought, until it is decided who is told. body is
-- JSON: fingerprints with why each is news, of at most as many as are told.
CREATE TABLE news (
    id    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    image INTEGER NOT NULL,
    time  BIGINT  NOT NULL,
    first INTEGER NOT NULL,
    total INTEGER NOT NULL,
    body  TEXT    NOT NULL
);
CREATE INDEX news_image ON news (image);

-- sealed is where a target is and what must be known to reach it, encrypted.
CREATE TABLE notify_targets (
    id        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name      TEXT    NOT NULL,
    sealed    BLOB    NOT NULL,
    body      TEXT    NOT NULL,
    folded    BIGINT  NOT NULL,
    tried     BIGINT  NOT NULL,
    delivered BIGINT  NOT NULL,
    error     TEXT    NOT NULL,
    remedy    TEXT    NOT NULL,
    lost      INTEGER NOT NULL
);
CREATE UNIQUE INDEX notify_targets_name ON notify_targets (name);

-- What waits for a target to be made into a notification.
CREATE TABLE notices (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    target   INTEGER NOT NULL,
    time     BIGINT  NOT NULL,
    severity INTEGER NOT NULL,
    body     TEXT    NOT NULL
);
CREATE INDEX notices_target ON notices (target, severity DESC, id, time);

-- At which level a target was told of a finding of an image.
CREATE TABLE notices_told (
    target      INTEGER NOT NULL,
    image       INTEGER NOT NULL,
    fingerprint TEXT    NOT NULL,
    level       INTEGER NOT NULL,
    PRIMARY KEY (target, image, fingerprint)
) WITHOUT ROWID;
CREATE INDEX notices_told_image ON notices_told (image);

-- What is on its way to a target, and not delivered or given up.
CREATE TABLE notifications (
    id      TEXT    NOT NULL PRIMARY KEY,
    target  INTEGER NOT NULL,
    notices INTEGER NOT NULL,
    created BIGINT  NOT NULL,
    tries   INTEGER NOT NULL,
    next    BIGINT  NOT NULL,
    body    BLOB    NOT NULL
);
CREATE INDEX notifications_target ON notifications (target);

-- +goose Down
DROP TABLE notifications;
DROP TABLE notices_told;
DROP TABLE notices;
DROP TABLE notify_targets;
DROP TABLE news;
