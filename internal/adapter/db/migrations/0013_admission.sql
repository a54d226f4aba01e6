-- +goose Up

-- Versions of the fleet's admission policy.
CREATE TABLE admission_policies (
    version INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    digest  TEXT    NOT NULL,
    text    TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    comment TEXT    NOT NULL,
    created BIGINT  NOT NULL
);

-- Leave that people gave; ended is when it expires or was withdrawn. body is JSON.
CREATE TABLE admission_exceptions (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    created      BIGINT  NOT NULL,
    ended        BIGINT  NOT NULL,
    withdrawn    BIGINT  NOT NULL,
    actor        TEXT    NOT NULL,
    withdrawn_by TEXT    NOT NULL,
    body         TEXT    NOT NULL
);
CREATE INDEX admission_exceptions_ended ON admission_exceptions (ended);

-- What verdicts share, once, found by the SHA-256 of its JSON: requests without
-- their ids and times, reasons, and what was known of images. What begins with the
-- byte 1 is compressed with zstd behind it, with 0 it is not.
CREATE TABLE admission_bodies (
    id   INTEGER NOT NULL PRIMARY KEY,
    hash BLOB    NOT NULL,
    body BLOB    NOT NULL
);
CREATE UNIQUE INDEX admission_bodies_hash ON admission_bodies (hash);

-- line is JSON: what lists tell beside the columns. facts_lost is 1 when there
-- were too many to be kept.
CREATE TABLE admission_verdicts (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    received   BIGINT  NOT NULL,
    at         BIGINT  NOT NULL,
    asked      BIGINT  NOT NULL,
    request_id TEXT    NOT NULL,
    agent      TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    door       TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    audited    INTEGER NOT NULL,
    facts_lost INTEGER NOT NULL,
    request    INTEGER NOT NULL,
    verdict    INTEGER NOT NULL,
    line       TEXT    NOT NULL
);
CREATE INDEX admission_verdicts_received ON admission_verdicts (received, id);
CREATE INDEX admission_verdicts_request  ON admission_verdicts (request_id, id, agent, at);
CREATE INDEX admission_verdicts_outcome  ON admission_verdicts (outcome, id);
CREATE INDEX admission_verdicts_door     ON admission_verdicts (door, id);
CREATE INDEX admission_verdicts_audited  ON admission_verdicts (audited, id);
CREATE INDEX admission_verdicts_asked    ON admission_verdicts (request);
CREATE INDEX admission_verdicts_said     ON admission_verdicts (verdict);

-- What was known of the images of a request.
CREATE TABLE admission_facts (
    verdict  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    body     INTEGER NOT NULL,
    PRIMARY KEY (verdict, position)
) WITHOUT ROWID;
CREATE INDEX admission_facts_body ON admission_facts (body);

-- By what verdicts are found.
CREATE TABLE admission_terms (
    kind    INTEGER NOT NULL,
    term    TEXT    NOT NULL,
    verdict INTEGER NOT NULL,
    PRIMARY KEY (kind, term, verdict)
) WITHOUT ROWID;
CREATE INDEX admission_terms_verdict ON admission_terms (verdict);

-- How many verdicts a day (UTC, in days since 1970): of an outcome, of a door, and
-- reasons of a rule with its effect before it.
CREATE TABLE admission_sums (
    day   INTEGER NOT NULL,
    kind  INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, kind, name)
) WITHOUT ROWID;

-- What engines and scans call images: digests of manifests and indexes.
CREATE TABLE image_digests (
    digest TEXT NOT NULL,
    image  TEXT NOT NULL,
    PRIMARY KEY (digest, image)
) WITHOUT ROWID;
CREATE INDEX image_digests_image ON image_digests (image);
INSERT INTO image_digests (digest, image)
    SELECT json_extract(body, '$.digest'), id FROM images WHERE json_extract(body, '$.digest') <> '';
CREATE INDEX registry_images_named ON registry_images (digest, idle, age DESC, number DESC);

-- +goose Down
DROP INDEX registry_images_named;
DROP TABLE image_digests;
DROP TABLE admission_sums;
DROP TABLE admission_terms;
DROP TABLE admission_facts;
DROP TABLE admission_verdicts;
DROP TABLE admission_bodies;
DROP TABLE admission_exceptions;
DROP TABLE admission_policies;
