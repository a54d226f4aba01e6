-- +goose Up

-- Incidents. active is 1 when it is not resolved. head is JSON without what only one
-- incident alone is shown with; body is all, and memory what more threats are folded
-- in by; both are as the bodies of admission.
CREATE TABLE incidents (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    state    TEXT    NOT NULL,
    active   INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    assignee TEXT    NOT NULL,
    updated  BIGINT  NOT NULL,
    last     BIGINT  NOT NULL,
    revision INTEGER NOT NULL,
    search   TEXT    NOT NULL,
    head     TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    memory   BLOB    NOT NULL
);
CREATE INDEX incidents_active  ON incidents (active, id);
CREATE INDEX incidents_state   ON incidents (state, severity);
CREATE INDEX incidents_updated ON incidents (updated);

-- What incidents are found by: their groups, rules, agents and workloads, and traces
-- of what was alike.
CREATE TABLE incident_terms (
    kind     INTEGER NOT NULL,
    term     TEXT    NOT NULL,
    incident INTEGER NOT NULL,
    PRIMARY KEY (kind, term, incident)
) WITHOUT ROWID;
CREATE INDEX incident_terms_incident ON incident_terms (incident);

-- Which incidents became part of which others.
CREATE TABLE incident_merges (
    id       INTEGER NOT NULL PRIMARY KEY,
    incident INTEGER NOT NULL
);
CREATE INDEX incident_merges_incident ON incident_merges (incident);

-- +goose Down
DROP TABLE incident_merges;
DROP TABLE incident_terms;
DROP TABLE incidents;
