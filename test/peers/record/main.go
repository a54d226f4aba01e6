// Command record asks the real peers about the sample images, and writes what
// they answer, one line a package or vulnerability, where the tests beside it
// read it. It needs the peers' programs in a folder; `make compare` builds them.
//
//	go run ./record -peers DIR -grype-db DIR
//
// Nothing is fetched: the advisories are those of testdata/advisories.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/castellan-security/castellan/test/peers/answer"
	"github.com/castellan-security/castellan/test/peers/sample"
)

func main() {
	var r recorder
	flag.StringVar(&r.peers, "peers", "", "folder with syft, osv-scanner and grype")
	flag.StringVar(&r.grypeDB, "grype-db", "", "folder with the database that ./grypedb made of the same advisories; empty: grype is left out")
	flag.StringVar(&r.data, "testdata", "testdata", "folder of images, advisories and answers")
	flag.Parse()
	if err := r.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

type recorder struct{ peers, grypeDB, data, work string }

func (r *recorder) run(ctx context.Context) (err error) {
	if r.work, err = os.MkdirTemp("", "castellan-compare-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	for _, dir := range []*string{&r.peers, &r.grypeDB} {
		if *dir, err = absolute(*dir); err != nil {
			return err
		}
	}
	images, err := sample.All(os.DirFS(filepath.Join(r.data, "images")))
	if err != nil {
		return err
	}
	if err := r.placeAdvisories(); err != nil {
		return err
	}
	for _, img := range images {
		if err := r.image(ctx, img); err != nil {
			return fmt.Errorf("%s: %w", img.Name, err)
		}
	}
	return nil
}

// absolute makes a path one that holds in every folder; none stays none.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	return filepath.Abs(dir)
}

// placeAdvisories puts the advisories where osv-scanner looks for them. It ends
// its matching at the first package of an ecosystem of which it has no file, so
// it gets empty ones of those.
func (r *recorder) placeAdvisories() error {
	db := filepath.Join(r.work, "osv-scalibr")
	if err := os.CopyFS(db, os.DirFS(filepath.Join(r.data, "advisories", "osv"))); err != nil {
		return err
	}
	const emptyZip = "PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for _, ecosystem := range []string{"crates.io", "RubyGems"} {
		if err := errors.Join(os.Mkdir(filepath.Join(db, ecosystem), 0o755), os.WriteFile(filepath.Join(db, ecosystem, "all.zip"), []byte(emptyZip), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) image(ctx context.Context, img sample.Image) error {
	layout, archive := filepath.Join(r.work, img.Name), filepath.Join(r.work, img.Name+".tar")
	if err := errors.Join(img.WriteLayout(layout), img.WriteArchive(archive)); err != nil {
		return err
	}
	type question struct {
		tool  string
		args  []string
		read  func([]byte) ([]string, error)
		finds int // exit code that says that something was found
	}
	questions := []question{
		{"syft", []string{"scan", "oci-dir:" + layout, "-o", "json", "-q"}, answer.Syft, 0},
		{"osv-scanner", []string{"scan", "image", "--archive", archive, "--offline", "--local-db-path", r.work, "--all-packages", "--all-vulns", "--format", "json"}, answer.OSVScanner, 1},
	}
	if r.grypeDB != "" {
		questions = append(questions, question{"grype", []string{"oci-dir:" + layout, "-o", "json", "-q"}, answer.Grype, 0})
	}
	for _, q := range questions {
		out, err := r.ask(ctx, q.tool, q.finds, q.args...)
		if err != nil {
			return err
		}
		lines, err := q.read(out)
		if err != nil {
			return fmt.Errorf("read what %s says: %w", q.tool, err)
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		if err := answer.Write(filepath.Join(r.data, "recorded"), img.Name, q.tool, digest, lines); err != nil {
			return err
		}
		fmt.Printf("%-12s %-12s %d lines\n", img.Name, q.tool, len(lines))
	}
	return nil
}

// ask runs a peer as on a machine where nobody configured it, without a network.
func (r *recorder) ask(ctx context.Context, tool string, finds int, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, filepath.Join(r.peers, tool), args...)
	c.Dir = r.work
	c.Env = []string{"HOME=" + r.work, "PATH=" + os.Getenv("PATH"), "SYFT_CHECK_FOR_APP_UPDATE=false", "GRYPE_CHECK_FOR_APP_UPDATE=false",
		"GRYPE_DB_CACHE_DIR=" + r.grypeDB, "GRYPE_DB_AUTO_UPDATE=false", "GRYPE_DB_VALIDATE_AGE=false"}
	var complaint strings.Builder
	c.Stderr = &complaint
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == finds {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", tool, strings.Join(args, " "), err, complaint.String())
	}
	return out, nil
}
