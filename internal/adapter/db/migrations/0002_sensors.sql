-- +goose Up

-- How many words the dictionary holds, because it is bounded; see index.go.
INSERT INTO counters (name, value) SELECT 'word', count(id) FROM terms WHERE dimension = 8;

-- Which buckets of paths and peers occur in which block; see bucket.go. A
-- segment is 256 neighbouring blocks: it comes first, so that what is added
-- lies together, however many buckets there are.
CREATE TABLE marks (
    segment INTEGER NOT NULL,
    bucket  INTEGER NOT NULL,
    block   INTEGER NOT NULL,
    PRIMARY KEY (segment, bucket, block)
) WITHOUT ROWID;

-- Who talked with whom: a line an hour, workload, agent, direction, protocol,
-- peer and port. workload, agent, grp and kind are terms, grp 0 when unknown; hour is in seconds
-- since 1970, received in milliseconds, first and last in nanoseconds; address
-- has 4 or 16 bytes, or none; peer is JSON, or empty.
CREATE TABLE flows (
    id       INTEGER NOT NULL PRIMARY KEY,
    hour     BIGINT  NOT NULL,
    workload INTEGER NOT NULL,
    agent    INTEGER NOT NULL,
    grp      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    protocol TEXT    NOT NULL,
    address  BLOB    NOT NULL,
    port     INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    peer     TEXT    NOT NULL,
    count    BIGINT  NOT NULL,
    failed   BIGINT  NOT NULL,
    error    TEXT    NOT NULL,
    sent     BIGINT  NOT NULL,
    arrived  BIGINT  NOT NULL,
    first    BIGINT  NOT NULL,
    last     BIGINT  NOT NULL,
    received BIGINT  NOT NULL
);
CREATE UNIQUE INDEX flows_line ON flows (workload, hour, agent, kind, protocol, address, port);
CREATE INDEX flows_group    ON flows (grp, hour);
CREATE INDEX flows_hour     ON flows (hour);
CREATE INDEX flows_received ON flows (received);

-- workload is a term, time in nanoseconds since 1970. raw is 1 until a sample
-- is old enough that one of several is enough.
CREATE TABLE samples (
    workload INTEGER NOT NULL,
    time     BIGINT  NOT NULL,
    raw      INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (workload, time)
) WITHOUT ROWID;
CREATE INDEX samples_time ON samples (time);
CREATE INDEX samples_raw  ON samples (time) WHERE raw = 1;

-- The empty agent stands for all that have no settings of their own.
CREATE TABLE agent_settings (
    agent TEXT NOT NULL PRIMARY KEY,
    body  TEXT NOT NULL
);

CREATE TABLE invitations (
    id      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    hash    BLOB    NOT NULL,
    name    TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    created BIGINT  NOT NULL,
    expires BIGINT  NOT NULL,
    used    BIGINT  NOT NULL,
    agent   TEXT    NOT NULL
);
CREATE UNIQUE INDEX invitations_hash ON invitations (hash);
CREATE INDEX invitations_created ON invitations (created DESC, id DESC);
CREATE INDEX invitations_expires ON invitations (expires);

CREATE TABLE certificates (
    serial   TEXT   NOT NULL PRIMARY KEY,
    agent    TEXT   NOT NULL,
    hostname TEXT   NOT NULL,
    address  TEXT   NOT NULL,
    issued   BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    revoked  BIGINT NOT NULL
);
CREATE INDEX certificates_agent   ON certificates (agent, issued DESC, serial);
CREATE INDEX certificates_issued  ON certificates (issued DESC, serial);
CREATE INDEX certificates_expires ON certificates (expires);

-- +goose Down
DROP TABLE certificates;
DROP TABLE invitations;
DROP TABLE agent_settings;
DROP TABLE samples;
DROP TABLE flows;
DROP TABLE marks;
DELETE FROM counters WHERE name = 'word';
