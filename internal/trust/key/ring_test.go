package key_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/key"
)

const day = 24 * time.Hour

func june(n int) time.Time { return time.Date(2026, 6, n, 12, 0, 0, 0, time.UTC) }

func TestLifeOfKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	ring := key.OpenRing(dir)
	o := key.Options{Password: is(secret)}
	if got, err := ring.List(june(1)); err != nil || len(got) != 0 {
		t.Fatalf("an empty ring: %v, %v", got, err)
	}
	first, err := ring.Generate("build", o, june(1))
	if err != nil {
		t.Fatal(err)
	}
	second, replaced, err := ring.Rotate("build", key.Options{Password: is(secret), Algorithm: key.Ed25519}, 10*day, june(2))
	if err != nil || replaced == nil || replaced.ID() != "build-1" || replaced.State != key.Retiring {
		t.Fatalf("Rotate = %+v, %+v, %v", second, replaced, err)
	}
	states := func(now time.Time) string {
		t.Helper()
		keys, err := ring.List(now)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, k := range keys {
			all = append(all, k.ID()+" "+string(k.State)+" "+string(k.Algorithm))
		}
		return strings.Join(all, ", ")
	}
	for _, tc := range []struct {
		name string
		now  time.Time
		want string
	}{
		{"in the overlap", june(11), "build-1 retiring ecdsa-p256, build-2 active ed25519"},
		{"at its end", june(12), "build-1 retired ecdsa-p256, build-2 active ed25519"},
	} {
		if got := states(tc.now); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	signer, k, err := ring.Signer("build", is(secret), june(3))
	if err != nil || k.ID() != "build-2" || !signs(t, signer) {
		t.Errorf("the active key is %s, %v", k.ID(), err)
	}
	if _, k, err := ring.Signer("build-1", is(secret), june(3)); err != nil || k.Fingerprint != first.Fingerprint {
		t.Errorf("the old one, within the overlap: %+v, %v", k, err)
	}
	_, _, err = ring.Signer("build-1", is(secret), june(13))
	checkError(t, err, fault.Denied, "build-1 is retired")

	lost, err := ring.Lose("build", june(5), june(20))
	if err != nil || lost.ID() != "build-2" || !lost.Since.Equal(june(5)) {
		t.Fatalf("Lose = %+v, %v", lost, err)
	}
	_, err = ring.Lose("build-2", june(6), june(20))
	checkError(t, err, fault.Conflict, "lost since")
	if lost, err = ring.Lose("build-2", june(1), june(20)); err != nil || !lost.Since.Equal(june(2)) {
		t.Errorf("earlier, but not before it was made: %+v, %v", lost, err)
	}
	_, _, err = ring.Signer("build-2", is(secret), june(20))
	checkError(t, err, fault.Denied, "build-2 is lost")
	third, replaced, err := ring.Rotate("build", o, day, june(20))
	if err != nil || replaced != nil || third.ID() != "build-3" || third.Algorithm != key.Ed25519 {
		t.Errorf("after a loss: %+v, %+v, %v", third, replaced, err)
	}
	if got, want := lost.Policy("build-2.pub"), `build-2: {file: "build-2.pub", lost: 2026-06-02T12:00:00Z}`; got != want {
		t.Errorf("Policy = %s, want %s", got, want)
	}
	keys, err := ring.List(june(20))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := keys[0].Policy("a.pub"), `build-1: {file: "a.pub", notAfter: 2026-06-12T12:00:00Z}`; got != want {
		t.Errorf("Policy = %s, want %s", got, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder's mode is %v, %v", info.Mode(), err)
	}
	index, err := os.ReadFile(filepath.Join(dir, "keyring.json"))
	if err != nil || strings.Contains(string(index), "PRIVATE") {
		t.Errorf("the index is %s, %v", index, err)
	}
}

func TestRingRefuses(t *testing.T) {
	ring := key.OpenRing(t.TempDir())
	o := key.Options{Password: is(secret)}
	if _, err := ring.Generate("build", o, june(1)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		do    func() error
		kind  fault.Kind
		words string
	}{
		{"the same name", func() error { _, err := ring.Generate("build", o, june(1)); return err }, fault.Conflict, "already"},
		{"a path for a name", func() error { _, err := ring.Generate("../x", o, june(1)); return err }, fault.Invalid, "no name"},
		{"a name that looks like an ID", func() error { _, err := ring.Generate("x-1", o, june(1)); return err }, fault.Invalid, "no name"},
		{"no password", func() error { _, err := ring.Generate("x", key.Options{}, june(1)); return err }, fault.Invalid, "without a password"},
		{"another algorithm", func() error {
			_, err := ring.Generate("x", key.Options{Algorithm: "dsa", Password: is(secret)}, june(1))
			return err
		}, fault.Invalid, `"dsa"`},
		{"rotation of none", func() error { _, _, err := ring.Rotate("x", o, day, june(1)); return err }, fault.NotFound, "[build-1]"},
		{"a negative overlap", func() error { _, _, err := ring.Rotate("build", o, -day, june(1)); return err }, fault.Invalid, "overlap"},
		{"loss of none", func() error { _, err := ring.Lose("x", june(1), june(2)); return err }, fault.NotFound, "[build-1]"},
		{"loss in the future", func() error { _, err := ring.Lose("build", june(3), june(2)); return err }, fault.Invalid, "yet to come"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkError(t, tc.do(), tc.kind, tc.words) })
	}
}

func TestIndexThatIsRefused(t *testing.T) {
	one := `{"name":"a","number":1,"algorithm":"ed25519","fingerprint":"","created":"2026-06-01T00:00:00Z","state":"active"}`
	for name, tc := range map[string]struct {
		text, words string
		mode        os.FileMode
	}{
		"no JSON":               {"x", "invalid character", 0o600},
		"of a newer program":    {`{"version":2,"keys":[]}`, "version 2", 0o600},
		"with more than we do":  {`{"version":1,"keys":[],"more":1}`, "unknown field", 0o600},
		"with a path":           {`{"version":1,"keys":[{"name":"../a","number":1,"state":"active"}]}`, "../a", 0o600},
		"with a key twice":      {`{"version":1,"keys":[` + one + `,` + one + `]}`, "twice", 0o600},
		"in an unknown state":   {`{"version":1,"keys":[{"name":"a","number":1,"state":"good"}]}`, "good", 0o600},
		"lost at no time":       {`{"version":1,"keys":[{"name":"a","number":1,"state":"lost"}]}`, "does not say when", 0o600},
		"lost before all times": {`{"version":1,"keys":[{"name":"a","number":1,"state":"lost","since":"0001-01-01T00:00:00Z"}]}`, "does not say when", 0o600},
		"retiring at no time":   {`{"version":1,"keys":[{"name":"a","number":1,"state":"retiring"}]}`, "does not say when", 0o600},
		"retired at no time":    {`{"version":1,"keys":[{"name":"a","number":1,"state":"retired"}]}`, "does not say when", 0o600},
		"with two active keys":  {`{"version":1,"keys":[` + one + `,` + strings.Replace(one, `"number":1`, `"number":2`, 1) + `]}`, "several keys a", 0o600},
		"with a second one":     {`{"version":1,"keys":[]}{"version":1,"keys":[` + one + `]}`, "something follows", 0o600},
		"that others may write": {`{"version":1,"keys":[]}`, "others may change", 0o666},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "keyring.json")
			if err := os.WriteFile(path, []byte(tc.text), tc.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tc.mode); err != nil {
				t.Fatal(err)
			}
			_, err := key.OpenRing(dir).List(june(1))
			if err == nil || fault.Remedy(err) == "" || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("error %v with remedy %q, want %q", err, fault.Remedy(err), tc.words)
			}
			_, err = key.OpenRing(dir).Generate("b", key.Options{Password: is(secret)}, june(1))
			if err == nil {
				t.Error("a key was made in a ring that cannot be read")
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != tc.text {
				t.Errorf("the index became %s, %v", b, err)
			}
		})
	}
}

// A private key that was exchanged is not used.
func TestExchangedKey(t *testing.T) {
	ring := key.OpenRing(t.TempDir())
	k, err := ring.Generate("build", key.Options{Password: is(secret)}, june(1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/sigstore.key")
	if err == nil {
		err = os.WriteFile(ring.PrivateFile(k), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = ring.Signer("build", is(secret), june(1))
	checkError(t, err, fault.Corrupt, "the ring says")
}

// Several who change a ring at once lose nothing of each other's.
func TestRingOfSeveral(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	names := []string{"a", "b", "c", "d"}
	for _, n := range names {
		all.Go(func() {
			if _, err := key.OpenRing(dir).Generate(n, key.Options{Password: is(secret)}, june(1)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	keys, err := key.OpenRing(dir).List(june(1))
	var got []string
	for _, k := range keys {
		got = append(got, k.Name)
	}
	if diff := cmp.Diff(got, names); diff != "" || err != nil {
		t.Errorf("got, want: %s (%v)", diff, err)
	}
}

// Two rotations at once are one after the other: none is lost, and one key signs.
func TestRotationsAtOnce(t *testing.T) {
	ring := key.OpenRing(filepath.Join(t.TempDir(), "keys"))
	o := key.Options{Password: is(secret)}
	if _, err := ring.Generate("build", o, june(1)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if _, _, err := ring.Rotate("build", o, day, june(2)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	keys, err := ring.List(june(2))
	var got []string
	for _, k := range keys {
		got = append(got, k.ID()+" "+string(k.State))
	}
	if diff := cmp.Diff(got, []string{"build-1 retiring", "build-2 retiring", "build-3 active"}); diff != "" || err != nil {
		t.Errorf("got, want: %s (%v)", diff, err)
	}
	if _, k, err := ring.Signer("build", is(secret), june(2)); err != nil || k.Number != 3 {
		t.Errorf("%s signs, %v", k.ID(), err)
	}
}

// A process that was killed after it wrote a key and before it noted it leaves
// files that nobody trusts. The ring is as it was, and what is left is not
// overwritten.
func TestKilledWhileRotating(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	ring := key.OpenRing(dir)
	o := key.Options{Password: is(secret)}
	k, err := ring.Generate("build", o, june(1))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "build-2.key")
	for _, name := range []string{left, filepath.Join(dir, ".keyring-123")} {
		if err := os.WriteFile(name, []byte("half a ke"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err = ring.Rotate("build", o, day, june(2)); fault.Of(err) != fault.Conflict || !strings.Contains(fault.Remedy(err), "move it away") {
		t.Errorf("Rotate() = %v, want a conflict", err)
	}
	if b, err := os.ReadFile(left); err != nil || string(b) != "half a ke" {
		t.Errorf("what was left became %q, %v", b, err)
	}
	keys, err := ring.List(june(2))
	if diff := cmp.Diff(keys, []key.Key{k}); diff != "" || err != nil {
		t.Errorf("got, want: %s (%v)", diff, err)
	}
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	if made, _, err := ring.Rotate("build", o, day, june(2)); err != nil || made.Number != 2 {
		t.Errorf("Rotate() = %v, %v", made, err)
	}
}

// Who may put another index into the folder could bring a lost key back.
func TestRingInOthersHands(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "keyring.json")
	if err := os.WriteFile(elsewhere, []byte(`{"version":1,"keys":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		do    func(dir string) error
		words string
	}{
		"the index is a link":            {func(dir string) error { return os.Symlink(elsewhere, filepath.Join(dir, "keyring.json")) }, "symbolic link"},
		"the index is a link to nothing": {func(dir string) error { return os.Symlink(elsewhere+".none", filepath.Join(dir, "keyring.json")) }, "symbolic link"},
		"the index is a folder":          {func(dir string) error { return os.Mkdir(filepath.Join(dir, "keyring.json"), 0o700) }, "regular one"},
		"the index is a pipe":            {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "keyring.json"), 0o600) }, "regular one"},
		"others may write the folder":    {func(dir string) error { return os.Chmod(dir, 0o777) }, "others may change"},
		"the group may write the folder": {func(dir string) error { return os.Chmod(dir, 0o770) }, "others may change"},
		"another user's folder":          {func(dir string) error { return foreign(t, dir) }, "another user"},
		"another user's index": {func(dir string) error {
			path := filepath.Join(dir, "keyring.json")
			if err := os.WriteFile(path, []byte(`{"version":1,"keys":[]}`), 0o600); err != nil {
				return err
			}
			return foreign(t, path)
		}, "another user"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tc.do(dir); err != nil {
				t.Skip("this cannot be set up here: ", err)
			}
			if _, err := key.OpenRing(dir).List(june(1)); err == nil || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("List() = %v, want %q", err, tc.words)
			}
			if _, err := key.OpenRing(dir).Generate("b", key.Options{Password: is(secret)}, june(1)); err == nil {
				t.Error("a key was made there")
			}
		})
	}
}

// foreign gives a file to somebody else, which only root may.
func foreign(t *testing.T, path string) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	return os.Chown(path, 65534, -1)
}

// FuzzIndex wants a list or an error, whatever is in the file.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"version":1,"keys":[{"name":"a","number":1,"state":"lost","since":"2026-06-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"version":1,"keys":null}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "keyring.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := key.OpenRing(dir).List(june(1))
		if err != nil {
			return
		}
		for _, k := range keys {
			if strings.ContainsAny(k.ID(), "/\x00 ") || !json.Valid([]byte(`"`+k.ID()+`"`)) {
				t.Fatalf("a key called %q", k.ID())
			}
		}
	})
}
