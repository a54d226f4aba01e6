-- +goose Up

-- The engine's id of the image that a workload was started from.
ALTER TABLE workloads ADD COLUMN image TEXT NOT NULL DEFAULT '';
UPDATE workloads SET image = coalesce(json_extract(body, '$.image.id'), '');
CREATE INDEX workloads_image ON workloads (image, rank, created DESC, id, agent);

-- idle is 0 while workloads of it run, pending 1 while it waits for a scan, also
-- while an agent is at it, scanned 1 when there is an inventory. attention orders
-- images by what was found in them; body is JSON, times are nanoseconds since 1970.
CREATE TABLE images (
    number    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id        TEXT    NOT NULL,
    search    TEXT    NOT NULL,
    seen      BIGINT  NOT NULL,
    workloads INTEGER NOT NULL,
    running   INTEGER NOT NULL,
    idle      INTEGER NOT NULL,
    pending   INTEGER NOT NULL,
    scanned   INTEGER NOT NULL,
    state     TEXT    NOT NULL,
    job       TEXT    NOT NULL,
    agent     TEXT    NOT NULL,
    tries     INTEGER NOT NULL,
    next      BIGINT  NOT NULL,
    error     TEXT    NOT NULL,
    done      BIGINT  NOT NULL,
    analysis  INTEGER NOT NULL,
    matched   BIGINT  NOT NULL,
    database  TEXT    NOT NULL,
    gaps      INTEGER NOT NULL,
    attention BIGINT  NOT NULL,
    counts    TEXT    NOT NULL,
    body      TEXT    NOT NULL
);
CREATE UNIQUE INDEX images_id ON images (id);
CREATE INDEX images_order   ON images (idle, attention DESC, seen DESC, id, search);
CREATE INDEX images_state   ON images (state, idle, attention DESC, seen DESC, id, search);
CREATE INDEX images_pending ON images (pending, idle, seen, id, next);
CREATE INDEX images_scanned ON images (scanned, idle, seen, id, database, analysis);

-- JSON, compressed with zstd.
CREATE TABLE inventories (
    image INTEGER NOT NULL PRIMARY KEY,
    body  BLOB    NOT NULL
);

-- What is the same of a weakness in every image, once: JSON, found by its SHA-256.
CREATE TABLE details (
    id   INTEGER NOT NULL PRIMARY KEY,
    hash BLOB    NOT NULL,
    body TEXT    NOT NULL
);
CREATE UNIQUE INDEX details_hash ON details (hash);

-- rank orders findings by the attention they deserve, position within one
-- rank as the match did; hash tells whether a line changed; epss is in
-- millionths.
CREATE TABLE vulnerabilities (
    number      INTEGER NOT NULL PRIMARY KEY,
    image       INTEGER NOT NULL,
    fingerprint TEXT    NOT NULL,
    weakness    TEXT    NOT NULL,
    package     TEXT    NOT NULL,
    severity    INTEGER NOT NULL,
    fixable     INTEGER NOT NULL,
    exploited   INTEGER NOT NULL,
    in_use      INTEGER NOT NULL,
    accepted    INTEGER NOT NULL,
    epss        INTEGER NOT NULL,
    rank        BIGINT  NOT NULL,
    position    INTEGER NOT NULL,
    first       BIGINT  NOT NULL,
    detail      INTEGER NOT NULL,
    hash        BLOB    NOT NULL,
    search      TEXT    NOT NULL,
    body        TEXT    NOT NULL
);
CREATE UNIQUE INDEX vulnerabilities_image ON vulnerabilities (image, fingerprint);
CREATE INDEX vulnerabilities_shown    ON vulnerabilities (image, accepted, rank DESC, position, number);
CREATE INDEX vulnerabilities_order    ON vulnerabilities (accepted, rank DESC, position, number, severity, search);
CREATE INDEX vulnerabilities_package  ON vulnerabilities (package, accepted, rank DESC, position, number);
CREATE INDEX vulnerabilities_weakness ON vulnerabilities (weakness, accepted, rank DESC, position, number);
CREATE INDEX vulnerabilities_sums     ON vulnerabilities
    (accepted, weakness, image, rank, severity, fixable, exploited, in_use, epss, first, package, search);
CREATE INDEX vulnerabilities_detail   ON vulnerabilities (detail);

-- Other names of weaknesses.
CREATE TABLE aliases (
    alias    TEXT NOT NULL,
    weakness TEXT NOT NULL,
    PRIMARY KEY (alias, weakness)
) WITHOUT ROWID;
CREATE INDEX aliases_weakness ON aliases (weakness);

-- Files of images that workloads executed or mapped.
CREATE TABLE image_uses (
    image INTEGER NOT NULL,
    path  TEXT    NOT NULL,
    PRIMARY KEY (image, path)
) WITHOUT ROWID;

CREATE TABLE acceptances (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    vulnerability TEXT    NOT NULL,
    package       TEXT    NOT NULL,
    image         TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    actor         TEXT    NOT NULL,
    created       BIGINT  NOT NULL,
    expires       BIGINT  NOT NULL,
    ended         BIGINT  NOT NULL,
    ended_by      TEXT    NOT NULL
);
CREATE INDEX acceptances_expires ON acceptances (expires);

-- +goose Down
DROP TABLE acceptances;
DROP TABLE image_uses;
DROP TABLE aliases;
DROP TABLE vulnerabilities;
DROP TABLE details;
DROP TABLE inventories;
DROP TABLE images;
DROP INDEX workloads_image;
ALTER TABLE workloads DROP COLUMN image;
