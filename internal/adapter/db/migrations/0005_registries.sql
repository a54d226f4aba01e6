-- +goose Up

-- body is JSON: what somebody configured. poll is JSON: how the last look went.
CREATE TABLE registries (
    name    TEXT   NOT NULL PRIMARY KEY,
    created BIGINT NOT NULL,
    webhook BLOB   NOT NULL,
    body    TEXT   NOT NULL,
    poll    TEXT   NOT NULL
) WITHOUT ROWID;

-- failing is 1 while the last listing failed.
CREATE TABLE registry_repositories (
    registry TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    listed   BIGINT  NOT NULL,
    images   INTEGER NOT NULL,
    excluded INTEGER NOT NULL,
    failing  INTEGER NOT NULL,
    error    TEXT    NOT NULL,
    remedy   TEXT    NOT NULL,
    tries    INTEGER NOT NULL,
    next     BIGINT  NOT NULL,
    PRIMARY KEY (registry, name)
) WITHOUT ROWID;
CREATE INDEX registry_repositories_order ON registry_repositories (registry, failing DESC, name);

-- idle is 0 while the registry has the image and its rules want it, age when it
-- was pushed or, where the registry does not tell, first listed. gravest is that
-- of its weaknesses: 5 critical, 4 high, 3 medium, 2 low, 1 any other. body is JSON: tags and
-- size.
CREATE TABLE registry_images (
    number     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    registry   TEXT    NOT NULL,
    repository TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    search     TEXT    NOT NULL,
    idle       INTEGER NOT NULL,
    age        BIGINT  NOT NULL,
    pushed     BIGINT  NOT NULL,
    created    BIGINT  NOT NULL,
    first      BIGINT  NOT NULL,
    gone       BIGINT  NOT NULL,
    state      TEXT    NOT NULL,
    tries      INTEGER NOT NULL,
    next       BIGINT  NOT NULL,
    error      TEXT    NOT NULL,
    analysis   INTEGER NOT NULL,
    gravest    INTEGER NOT NULL,
    body       TEXT    NOT NULL
);
CREATE UNIQUE INDEX registry_images_digest ON registry_images (registry, repository, digest);
CREATE INDEX registry_images_order   ON registry_images (registry, idle, age DESC, number DESC, search);
CREATE INDEX registry_images_state   ON registry_images (registry, state, age DESC, number DESC, gravest);
CREATE INDEX registry_images_inside  ON registry_images (registry, repository, idle, age DESC, number DESC);
CREATE INDEX registry_images_waiting ON registry_images (age DESC, number, next) WHERE state = 'waiting';
CREATE INDEX registry_images_gone    ON registry_images (gone) WHERE gone > 0;

-- The images that an entry is of, one for each platform.
CREATE TABLE registry_platforms (
    entry    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    image    TEXT    NOT NULL,
    platform TEXT    NOT NULL,
    PRIMARY KEY (entry, position)
) WITHOUT ROWID;
CREATE INDEX registry_platforms_image ON registry_platforms (image, entry);

-- +goose Down
DROP TABLE registry_platforms;
DROP TABLE registry_images;
DROP TABLE registry_repositories;
DROP TABLE registries;
