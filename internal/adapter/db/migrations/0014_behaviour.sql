-- +goose Up

-- Groups with what their profile does. proposed is 1 when there is a proposal, kept
-- 1 when a person has decided on it: then it is not forgotten. body is JSON.
CREATE TABLE behaviour_groups (
    name     TEXT    NOT NULL PRIMARY KEY,
    mode     TEXT    NOT NULL,
    proposed INTEGER NOT NULL,
    kept     INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    last     BIGINT  NOT NULL,
    body     TEXT    NOT NULL
) WITHOUT ROWID;
CREATE INDEX behaviour_groups_mode     ON behaviour_groups (mode, name);
CREATE INDEX behaviour_groups_proposed ON behaviour_groups (proposed, name);
CREATE INDEX behaviour_groups_last     ON behaviour_groups (kept, last);

-- What learners remember, and the event up to which. state is as the bodies of
-- admission.
CREATE TABLE behaviour_states (
    grp      TEXT    NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL,
    state    BLOB    NOT NULL
);

-- Revisions of profiles. body is as the bodies of admission, of JSON.
CREATE TABLE behaviour_revisions (
    grp      TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    created  BIGINT  NOT NULL,
    actor    TEXT    NOT NULL,
    comment  TEXT    NOT NULL,
    entries  INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (grp, revision)
);

-- What lay outside, folded. permit is the permit that made it normal, 0 for none.
-- body is JSON.
CREATE TABLE behaviour_violations (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    grp         TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    control     TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    reaction    TEXT    NOT NULL,
    permit      INTEGER NOT NULL,
    count       BIGINT  NOT NULL,
    first       BIGINT  NOT NULL,
    last        BIGINT  NOT NULL,
    search      TEXT    NOT NULL,
    body        TEXT    NOT NULL
);
CREATE UNIQUE INDEX behaviour_violations_print ON behaviour_violations (grp, fingerprint);
CREATE INDEX behaviour_violations_last  ON behaviour_violations (last, id);
CREATE INDEX behaviour_violations_group ON behaviour_violations (grp, last, id);
CREATE INDEX behaviour_violations_open  ON behaviour_violations (permit, control, grp);
CREATE INDEX behaviour_violations_of    ON behaviour_violations (grp, permit);

-- What people made normal. body is JSON.
CREATE TABLE behaviour_permits (
    id      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    grp     TEXT    NOT NULL,
    created BIGINT  NOT NULL,
    undone  BIGINT  NOT NULL,
    body    TEXT    NOT NULL
);
CREATE INDEX behaviour_permits_group   ON behaviour_permits (grp, id);
CREATE INDEX behaviour_permits_created ON behaviour_permits (created);

-- How far events are known ("learned", "compared"), and what holds for all groups
-- ("promotion"): one of number and body is used.
CREATE TABLE behaviour_marks (
    name   TEXT   NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    body   TEXT   NOT NULL
);

-- +goose Down
DROP TABLE behaviour_marks;
DROP TABLE behaviour_permits;
DROP TABLE behaviour_violations;
DROP TABLE behaviour_revisions;
DROP TABLE behaviour_states;
DROP TABLE behaviour_groups;
