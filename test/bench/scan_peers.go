package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	// peerAdvisories are what peers that match get: as few for each, so that it is
	// their reading of the image that is measured.
	peerAdvisories = "test/peers/testdata/advisories/osv"
	// peerRounds is how often they are measured; each takes its time.
	peerRounds = 2
)

// peersOf measures other scanners on the same image, without a network, if their
// programs are there (`make compare` builds them).
func (b *scanBench) peersOf(ctx context.Context) (rows []row, err error) {
	if b.peers == "" {
		return []row{{"peers", "not measured: -peers DIR", ""}}, nil
	}
	home := filepath.Join(b.dir, "home")
	local, err := placeAdvisories(home)
	if err != nil {
		return nil, err
	}
	layout, archive := filepath.Join(b.dir, "gzip"), filepath.Join(b.dir, "archive.tar")
	grypeDB := filepath.Join(home, "grype")
	if out, err := exec.CommandContext(ctx, filepath.Join(b.peers, "grypedb"), "-advisories", peerAdvisories, "-out", grypeDB).CombinedOutput(); err != nil {
		rows = append(rows, row{"  grype", fmt.Sprintf("no database: %v %.200s", err, out), ""})
	}
	for _, p := range []struct {
		what, tool string
		args       []string
	}{
		{"  syft, packages alone, gzip", "syft", []string{"scan", "oci-dir:" + layout, "-q", "-o", "json=" + filepath.Join(b.dir, "syft.json")}},
		{"  syft, packages alone, docker-archive", "syft", []string{"scan", "docker-archive:" + archive, "-q", "-o", "json=" + filepath.Join(b.dir, "syft.json")}},
		{"  osv-scanner, docker-archive", "osv-scanner", []string{"scan", "image", "--archive", archive, "--offline", "--local-db-path", local,
			"--all-packages", "--format", "json", "--output-file", filepath.Join(b.dir, "osv.json")}},
		{"  grype, gzip", "grype", []string{"oci-dir:" + layout, "-q", "-o", "json", "--file", filepath.Join(b.dir, "grype.json")}},
	} {
		program := filepath.Join(b.peers, p.tool)
		if _, err := os.Stat(program); err != nil {
			rows = append(rows, row{p.what, "not measured: " + err.Error(), ""})
			continue
		}
		u, err := leastOf(min(b.rounds, peerRounds), func() (*exec.Cmd, error) {
			c := exec.CommandContext(ctx, program, p.args...)
			c.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + b.dir, "SYFT_CHECK_FOR_APP_UPDATE=false", "GRYPE_CHECK_FOR_APP_UPDATE=false",
				"GRYPE_DB_CACHE_DIR=" + grypeDB, "GRYPE_DB_AUTO_UPDATE=false", "GRYPE_DB_VALIDATE_AGE=false"}
			return c, nil
		})
		if err != nil {
			rows = append(rows, row{p.what, fmt.Sprintf("failed: %.300v", err), ""})
			continue
		}
		rows = append(rows, row{p.what, u.String(), ""})
	}
	return append([]row{{"peers on the same image", "", ""}}, rows...), nil
}

// placeAdvisories puts advisories where osv-scanner looks for them. It ends its
// matching at the first package of an ecosystem that it has nothing of, so the
// others get an empty file.
func placeAdvisories(home string) (dir string, err error) {
	db := filepath.Join(home, "osv-scalibr")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	if err := os.CopyFS(db, os.DirFS(peerAdvisories)); err != nil {
		return "", err
	}
	const emptyZip = "PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	var errs []error
	for _, ecosystem := range []string{"crates.io", "RubyGems", "Hex", "Pub", "CRAN", "Hackage", "GIT", "GitHub Actions"} {
		at := filepath.Join(db, ecosystem)
		errs = append(errs, os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, "all.zip"), []byte(emptyZip), 0o644))
	}
	return home, errors.Join(errs...)
}
