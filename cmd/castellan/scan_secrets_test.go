package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/castellan-security/castellan/internal/scan"
)

// What stands in an image's configuration, labels and history is in no report and
// in no file of the cache, whether secrets are looked for or not.
func TestNoFormTellsASecret(t *testing.T) {
	planted := []string{"Tr0ub4dor-3xK9", strings.Join([]string{"ghp_", "x7Qw9ZrT4bNm2KfLs8VyHc3JdGp6UaE1oR5t"}, ""), "h1st0ry-0f-all", "arg-0f-a-Bu1ld"}
	for _, flags := range []string{"", "--no-secrets"} {
		dir, cache := t.TempDir(), t.TempDir()
		writeImage(t, filepath.Join(dir, "app.tar"), v1.Config{Env: []string{"DB_PASSWORD=" + planted[0]}, Labels: map[string]string{"deploy": planted[1]}, Cmd: []string{"serve", "--dsn", "postgres://shop:" + planted[0] + "@db.internal/shop"}},
			"RUN /bin/sh -c curl https://u:"+planted[2]+"@intern.acme.io/a.tgz | tar xz", "RUN |1 API_SECRET="+planted[3]+" /bin/sh -c make", "ENV DB_PASSWORD="+planted[0])
		script := "for n in 1 2; do castellan scan app.tar --no-match --all " + flags // once from the image, once from the cache
		for _, f := range scan.ReportFormats() {
			script += " -o " + string(f) + "=" + string(f) + ".$n"
		}
		if code, out := shell(t, dir, script+"; done", "XDG_CACHE_HOME="+cache); code != 0 {
			t.Fatalf("exit code %d\n%s", code, out)
		}
		if err := os.Remove(filepath.Join(dir, "app.tar")); err != nil {
			t.Fatal(err)
		}
		files := 0
		for _, folder := range []string{dir, cache} {
			err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				files++
				b, err := os.ReadFile(path)
				for _, p := range planted {
					if strings.Contains(string(b), p) {
						t.Errorf("%s %s tells %s", filepath.Base(path), flags, p)
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if least := 2*len(scan.ReportFormats()) + 2; files < least {
			t.Errorf("%d files, want at least %d: the reports, a layer and an image", files, least)
		}
		b, err := os.ReadFile(filepath.Join(dir, "json.1"))
		if err != nil || !strings.Contains(string(b), `DB_PASSWORD=***`) || !strings.Contains(string(b), "https://u:***@intern.acme.io") {
			t.Errorf("the report lacks what is not secret: %v\n%s", err, b)
		}
	}
}
