-- +goose Up

-- Versions of documents of rules of detection. holds is 1 for the newest version of a
-- name, or 2 when that says that the document is removed, and 0 for all others.
CREATE TABLE detection_documents (
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    holds   INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    comment TEXT    NOT NULL,
    created BIGINT  NOT NULL,
    text    TEXT    NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE INDEX detection_documents_holds ON detection_documents (holds, name);

-- Silences beside documents. over is when one ends by itself or was ended; body is
-- JSON.
CREATE TABLE detection_silences (
    id   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    over BIGINT  NOT NULL,
    body TEXT    NOT NULL
);
CREATE INDEX detection_silences_over ON detection_silences (over);

-- How rules fare on an agent's host: since its start that is boot, and in former_… on
-- all starts before.
CREATE TABLE detection_stats (
    rule            TEXT    NOT NULL,
    agent           TEXT    NOT NULL,
    boot            TEXT    NOT NULL,
    looked          INTEGER NOT NULL,
    hits            INTEGER NOT NULL,
    silenced        INTEGER NOT NULL,
    errors          INTEGER NOT NULL,
    spent           INTEGER NOT NULL,
    former_looked   INTEGER NOT NULL,
    former_hits     INTEGER NOT NULL,
    former_silenced INTEGER NOT NULL,
    former_errors   INTEGER NOT NULL,
    former_spent    INTEGER NOT NULL,
    last            BIGINT  NOT NULL,
    PRIMARY KEY (rule, agent)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE detection_stats;
DROP TABLE detection_silences;
DROP TABLE detection_documents;
