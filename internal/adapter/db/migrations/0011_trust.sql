-- +goose Up

-- Versions of the fleet's trust policy.
CREATE TABLE trust_policies (
    version INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    digest  TEXT    NOT NULL,
    text    TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    comment TEXT    NOT NULL,
    created BIGINT  NOT NULL
);

-- Images by the names under which they run, each with its latest verdict. idle is
-- 0 while workloads of it run; rank orders states; due is 0 as soon as one wants to
-- know. images is the engines' ids, one a line; body and details are JSON.
CREATE TABLE trust_images (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    repository TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    images     TEXT    NOT NULL,
    running    INTEGER NOT NULL,
    idle       INTEGER NOT NULL,
    rank       INTEGER NOT NULL,
    policy     TEXT    NOT NULL,
    seen       BIGINT  NOT NULL,
    last       BIGINT  NOT NULL,
    checked    BIGINT  NOT NULL,
    due        BIGINT  NOT NULL,
    tries      INTEGER NOT NULL,
    groups     TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    details    BLOB    NOT NULL
);
CREATE UNIQUE INDEX trust_images_name  ON trust_images (repository, digest);
CREATE INDEX        trust_images_order ON trust_images (idle, rank, repository, digest, id, running);
CREATE INDEX        trust_images_state ON trust_images (rank, idle, repository, digest, id, running);
CREATE INDEX        trust_images_due   ON trust_images (idle, due, id);

-- Which engines call an image so, and who has signed it.
CREATE TABLE trust_terms (
    term  TEXT    NOT NULL,
    image INTEGER NOT NULL,
    kind  INTEGER NOT NULL,
    PRIMARY KEY (term, kind, image)
) WITHOUT ROWID;
CREATE INDEX trust_terms_image ON trust_terms (image, kind);

-- +goose Down
DROP TABLE trust_terms;
DROP TABLE trust_images;
DROP TABLE trust_policies;
