package scan_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// planted is the secret of these tests.
const planted = "Tr0ub4dor" + "&3xK9"

func secretsOf(t *testing.T, o scan.Options, im *image) inventory.Inventory {
	t.Helper()
	e, err := scan.NewSecrets([]byte("a salt of tests"))
	if err != nil {
		t.Fatal(err)
	}
	o.Secrets = e
	inv, _ := mustScan(t, scan.New(o), im)
	return inv
}

func secretLines(inv inventory.Inventory) (lines []string) {
	for _, s := range inv.Secrets {
		l := fmt.Sprintf("%s %s%s %s:%d layer %d", s.Rule, s.Source, s.Path, s.Name, s.Line, s.Layer)
		if h := s.Hidden; h != nil {
			l += fmt.Sprintf(", hidden by %d", h.Layer)
			if h.Deleted {
				l += ", deleted"
			}
		}
		if s.Doubt != "" {
			l += " but " + s.Doubt
		}
		lines = append(lines, l)
	}
	return lines
}

// What an upper layer deletes or replaces is told with the layer that brought it
// and the one that hides it; what stays is of the layer that brought it first.
func TestSecretsOfAllLayers(t *testing.T) {
	im := imageOf(t,
		[]string{"file kept.env DB_PASSWORD=" + planted, "file gone.env DB_PASSWORD=" + planted, "file replaced.env DB_PASSWORD=" + planted,
			"file folder/deep.env DB_PASSWORD=" + planted, "file emptied/a.env DB_PASSWORD=" + planted, "file cut/a.env DB_PASSWORD=" + planted,
			"file again.env DB_PASSWORD=" + planted, "hard second.env kept.env", "link link.env kept.env"},
		[]string{"gone gone.env", "file replaced.env DB_PASSWORD=${X}", "gone folder", "opaque emptied", "file cut now a file", "file again.env X=1\nDB_PASSWORD=" + planted},
		[]string{"file unrelated.env X=1"})
	want := []string{
		"password /again.env DB_PASSWORD:2 layer 1",
		"password /cut/a.env DB_PASSWORD:1 layer 1, hidden by 2",
		"password /emptied/a.env DB_PASSWORD:1 layer 1, hidden by 2, deleted",
		"password /folder/deep.env DB_PASSWORD:1 layer 1, hidden by 2, deleted",
		"password /gone.env DB_PASSWORD:1 layer 1, hidden by 2, deleted",
		"password /kept.env DB_PASSWORD:1 layer 1",
		"password /replaced.env DB_PASSWORD:1 layer 1, hidden by 2",
	}
	o := scan.Options{Cache: filepath.Join(t.TempDir(), "cache")}
	first := secretsOf(t, o, im)
	if d := cmp.Diff(secretLines(first), want); d != "" {
		t.Errorf("read (-got +want):\n%s", d)
	}
	second := secretsOf(t, o, im)
	if d := cmp.Diff(second.Secrets, first.Secrets); d != "" || len(im.reads) > 0 {
		t.Errorf("layers %v were read again; from the cache (-got +want):\n%s", im.reads, d)
	}
	err := filepath.WalkDir(o.Cache, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if bytes.Contains(b, []byte(planted)) {
			t.Errorf("%s holds the value", d.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Another salt is another print: layers are read again.
func TestSaltIsPartOfWhatIsKept(t *testing.T) {
	im := imageOf(t, []string{"file a.env DB_PASSWORD=" + planted})
	o := scan.Options{Cache: filepath.Join(t.TempDir(), "cache")}
	first := secretsOf(t, o, im)
	e, err := scan.NewSecrets([]byte("another salt of tests"))
	if err != nil {
		t.Fatal(err)
	}
	o.Secrets = e
	second, reads := mustScan(t, scan.New(o), im)
	if len(reads) != 1 || len(second.Secrets) != 1 || second.Secrets[0].Print == first.Secrets[0].Print {
		t.Errorf("with another salt layers %v were read and the prints are %q and %q", reads, first.Secrets[0].Print, second.Secrets[0].Print)
	}
}

// bareToken stands as a variable without a sign: it is no name that may be shown.
var bareToken = strings.Join([]string{"ghp_", "x7Qw9ZrT4bNm2KfLs8VyHc3JdGp6UaE1oR5t"}, "")

func TestSecretsOfTheConfiguration(t *testing.T) {
	im := imageOf(t, []string{"file a x"})
	im.info.Config = inventory.Config{Env: []string{"PATH=/bin", "DB_PASSWORD=" + planted, "DB_PASSWORD_FILE=/run/secrets/db", "GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305", bareToken},
		Labels: map[string]string{"deploy.token": "q8Zr4Lw2Vn7Xc1Bm5Ty9Kd3"}, Cmd: []string{"app", "--password=" + planted}}
	im.info.History = []inventory.Step{{Instruction: "ADD rootfs.tar /"}, {Instruction: "ARG NPM_TOKEN=q8Zr4Lw2Vn7Xc1Bm5Ty9Kd3", Empty: true},
		{Instruction: "ENV DB_PASSWORD=0ld-" + planted, Empty: true}, {Instruction: "ENV DB_PASSWORD=" + planted, Empty: true}}
	got := secretLines(secretsOf(t, scan.Options{}, im))
	want := []string{
		"token argument step 2:0 layer 0",
		"password command password:0 layer 0",
		"github-pat env :0 layer 0",
		"password env DB_PASSWORD:0 layer 0",
		"generic-api-key env GPG_KEY:0 layer 0 but it looks like a digest, or the number of a version",
		"password history step 3:0 layer 0",
		"token label deploy.token:0 layer 0",
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
}

func TestSecretsAreAccepted(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	im := imageOf(t, []string{"file app/a.env DB_PASSWORD=" + planted, "file app/b.env DB_PASSWORD=" + strings.ToUpper(planted),
		"file app/c.env DB_PASSWORD=" + planted + " # castellan:allow weak on purpose until 2026-11-28", "file app/d.env DB_PASSWORD=" + planted + " # castellan:allow over until 2026-11-27"})
	inv := secretsOf(t, scan.Options{}, im)
	rules := []scan.Rule{{ID: "password", Path: "/app/b.env", Reason: "a test"}, {Path: "/app/**", Reason: "of packages alone"},
		{ID: "secrets", Reason: "over", Expires: now.AddDate(0, 0, -1)}}
	known := map[string]bool{inv.Secrets[0].Print: true}
	found, expired := scan.JudgeSecrets(&inv, rules, known, now)
	if len(expired) != 1 || expired[0].Reason != "over" {
		t.Errorf("expired are %v, want the rule that has ended", expired)
	}
	var got []string
	for _, f := range found {
		line := fmt.Sprintf("%s %v %v", f.Path, f.Severity, f.Known)
		if f.Accepted != nil {
			line += " " + f.Accepted.Reason
		}
		got = append(got, line)
	}
	want := []string{"/app/a.env high true", "/app/b.env high false a test", "/app/c.env high false weak on purpose", "/app/d.env high false"}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
}

// Where a document or a configuration is not looked through to its end, that is a
// problem of the report.
func TestWhatIsCutIsAProblem(t *testing.T) {
	e, err := scan.NewSecrets([]byte("a salt of tests"))
	if err != nil {
		t.Fatal(err)
	}
	var many strings.Builder
	for n := range 600 {
		fmt.Fprintf(&many, "%s{\"name\": \"DB_PASSWORD\", \"value\": \"%s%d\"}", strings.Repeat(",", min(n, 1)), planted, n)
	}
	doc := scan.New(scan.Options{Secrets: e}).Document("-", []byte(`{"containerDefinitions": [{"environment": [`+many.String()+`]}]}`))
	if len(doc.Secrets) != 500 || len(doc.Problems) != 1 || !strings.Contains(doc.Problems[0].What, "not all of it was looked at") {
		t.Errorf("document: %d secrets, problems %v", len(doc.Secrets), doc.Problems)
	}
	im := imageOf(t, []string{"file a x"})
	im.info.Config = inventory.Config{Env: []string{"BIG=" + strings.Repeat("x ", 200<<10)}, Labels: map[string]string{planted: "x"}}
	inv := secretsOf(t, scan.Options{}, im)
	if len(inv.Problems) != 1 || inv.Problems[0].What != "variable 1 of the image's configuration: of its 409604 bytes the first 262144 were looked at for secrets" {
		t.Errorf("image: problems %v", inv.Problems)
	}
}
