-- +goose Up

-- What findings in many images share, as far as lists over all images are asked
-- by it: a weakness in a package, and how it stands there. hash is that of the
-- rest, search what is looked at for text.
CREATE TABLE facets (
    number    INTEGER NOT NULL PRIMARY KEY,
    hash      BLOB    NOT NULL,
    weakness  TEXT    NOT NULL,
    package   TEXT    NOT NULL,
    fixed     TEXT    NOT NULL,
    severity  INTEGER NOT NULL,
    fixable   INTEGER NOT NULL,
    exploited INTEGER NOT NULL,
    in_use    INTEGER NOT NULL,
    accepted  INTEGER NOT NULL,
    rank      BIGINT  NOT NULL,
    detail    INTEGER NOT NULL,
    search    TEXT    NOT NULL
);
CREATE UNIQUE INDEX facets_hash ON facets (hash);
CREATE INDEX facets_order       ON facets (accepted, rank DESC, number);
CREATE INDEX facets_weakness    ON facets (weakness, accepted, rank DESC, number);
CREATE INDEX facets_package     ON facets (package, accepted, rank DESC, number);
CREATE INDEX facets_detail      ON facets (detail);

-- Which of them an image has and when each was first found in it, packed. hash is
-- that of all its findings.
CREATE TABLE image_facets (
    image  INTEGER NOT NULL PRIMARY KEY,
    hash   BLOB    NOT NULL,
    facets BLOB    NOT NULL
);

-- Each index over all images costs a new finding a page that nothing else needs;
-- one by facets is enough.
ALTER TABLE vulnerabilities ADD COLUMN facet INTEGER NOT NULL DEFAULT 0;
DROP INDEX vulnerabilities_sums;
DROP INDEX vulnerabilities_order;
DROP INDEX vulnerabilities_package;
DROP INDEX vulnerabilities_weakness;
DROP INDEX vulnerabilities_detail;
ALTER TABLE vulnerabilities DROP COLUMN epss;
CREATE INDEX vulnerabilities_facet ON vulnerabilities (facet, position, number);

-- asked is the analysis for which a scan was handed out of an image that an older
-- one had scanned.
ALTER TABLE images ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;

-- All images are compared anew, which finds their facets; until then lists over
-- all images lack them.
UPDATE images SET database = '';

-- +goose Down
ALTER TABLE images DROP COLUMN asked;
DROP INDEX vulnerabilities_facet;
ALTER TABLE vulnerabilities ADD COLUMN epss INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vulnerabilities DROP COLUMN facet;
CREATE INDEX vulnerabilities_order    ON vulnerabilities (accepted, rank DESC, position, number, severity, search);
CREATE INDEX vulnerabilities_package  ON vulnerabilities (package, accepted, rank DESC, position, number);
CREATE INDEX vulnerabilities_weakness ON vulnerabilities (weakness, accepted, rank DESC, position, number);
CREATE INDEX vulnerabilities_sums     ON vulnerabilities
    (accepted, weakness, image, rank, severity, fixable, exploited, in_use, epss, first, package, search);
CREATE INDEX vulnerabilities_detail   ON vulnerabilities (detail);
DROP TABLE image_facets;
DROP TABLE facets;
