-- +goose Up

-- Secrets, faults and malware, each once however many images have it. severity and
-- search are as the image that was compared last has them. runs is 1 while the
-- image of a running workload has it, as of when days were last counted.
CREATE TABLE findings (
    number   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind     TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    severity INTEGER NOT NULL,
    first    BIGINT  NOT NULL,
    runs     INTEGER NOT NULL,
    search   TEXT    NOT NULL
);
CREATE UNIQUE INDEX findings_key ON findings (kind, key);
CREATE INDEX findings_order      ON findings (kind, severity DESC, first DESC, number, search);
CREATE INDEX findings_runs       ON findings (runs, number, kind, severity);

-- Which image has which; body is JSON.
CREATE TABLE image_findings (
    image    INTEGER NOT NULL,
    finding  INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    first    BIGINT  NOT NULL,
    body     TEXT    NOT NULL,
    PRIMARY KEY (image, finding)
) WITHOUT ROWID;
CREATE INDEX image_findings_finding ON image_findings (finding, accepted, image, first);
CREATE INDEX image_findings_order   ON image_findings (image, accepted, severity DESC, finding);

-- One line a day, kind and severity; day counts from 1970. new and resolved of
-- vulnerabilities are not counted.
CREATE TABLE finding_days (
    kind     TEXT    NOT NULL,
    day      INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    open     INTEGER NOT NULL,
    new      INTEGER NOT NULL,
    resolved INTEGER NOT NULL,
    PRIMARY KEY (kind, day, severity)
) WITHOUT ROWID;
CREATE INDEX finding_days_day ON finding_days (day);

-- Who is responsible for which images; the last that fits decides.
CREATE TABLE owners (
    position INTEGER NOT NULL PRIMARY KEY,
    pattern  TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    contact  TEXT    NOT NULL
);
ALTER TABLE images ADD COLUMN owner TEXT NOT NULL DEFAULT '';

-- kind is empty for a vulnerability; others are named by a rule and a path.
ALTER TABLE acceptances ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE acceptances ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE acceptances ADD COLUMN path TEXT NOT NULL DEFAULT '';

-- All images are compared anew, which finds their faults.
UPDATE images SET database = '';

-- +goose Down
DELETE FROM acceptances WHERE kind <> '';
ALTER TABLE acceptances DROP COLUMN path;
ALTER TABLE acceptances DROP COLUMN rule;
ALTER TABLE acceptances DROP COLUMN kind;
ALTER TABLE images DROP COLUMN owner;
DROP TABLE owners;
DROP TABLE finding_days;
DROP TABLE image_findings;
DROP TABLE findings;
