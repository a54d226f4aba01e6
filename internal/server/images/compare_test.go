package images_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/store"
)

// publish puts a database in place, as castellan scan db update does.
func (f *fleet) publish(advisories ...advisory.Advisory) {
	f.t.Helper()
	b, err := scan.NewDatabase(scan.DatabaseOptions{Built: time.Now(), Dir: f.dir})
	if err != nil {
		f.t.Fatal(err)
	}
	defer b.Close()
	err = b.AddAll(f.t.Context(), scan.DatabaseSource{Name: "test"}, func(yield func(advisory.Advisory, error) bool) {
		for _, a := range advisories {
			a.Source = "test"
			if !yield(a, nil) {
				return
			}
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := b.Write(f.t.Context(), f.advisories()); err != nil {
		f.t.Fatal(err)
	}
}

// weakness is of a Python package, below version 9.
func weakness(cve, name string, rating advisory.Rating) advisory.Advisory {
	return advisory.Advisory{
		ID: cve, Rating: rating, Summary: "About " + name, Modified: time.Now(),
		Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: name, Ranges: []advisory.Range{{Introduced: "0", Fixed: "9"}}}},
	}
}

// scanned has an image of two Python packages and one of Debian scanned, with
// advisories about the former.
func (f *fleet) scanned(id, letter string) *node {
	f.t.Helper()
	f.publish(weakness("CVE-2026-0001", "alpha", advisory.Critical), weakness("CVE-2026-0002", "beta", advisory.Low))
	later(time.Minute)
	a := f.join(one, container(letter, id))
	a.answers(a.wish(1), pypi("alpha", "1"), pypi("beta", "1"), openssl)
	f.wantFound("first", "CVE-2026-0001 alpha", "CVE-2026-0002 beta")
	return a
}

func (f *fleet) wantFound(when string, want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.found(store.VulnerabilityQuery{ImageID: web})); diff != "" {
		f.t.Errorf("findings, %s (-want +got):\n%s", when, diff)
	}
}

func TestNewAdvisoriesAreComparedWithWhatIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.scanned(web, "a")
		before := f.status().Database
		if before.Seeded || before.Stale || before.Advisories != 2 || before.Error != "" {
			t.Errorf("status %+v", before)
		}
		changes, err := f.Changed(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.publish(weakness("CVE-2026-0003", "beta", advisory.High))
		later(2 * time.Minute)
		f.wantFound("with other advisories", "CVE-2026-0003 beta")
		if len(changes) == 0 {
			t.Error("nobody was told")
		}
		st := f.status()
		if st.Database.Generation == before.Generation || st.Database.Advisories != 1 || st.Unmatched != 0 {
			t.Errorf("status %+v", st)
		}
		if got := f.image(web).Scan.Database; got != st.Database.Generation {
			t.Errorf("compared with %s, want %s", got, st.Database.Generation)
		}
		a.wantAsked(1, "with other advisories")
		later(8 * 24 * time.Hour)
		if !f.status().Database.Stale {
			t.Error("a week later the advisories are not stale")
		}
	})
}

func TestDamagedAdvisoriesAreLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.scanned(web, "a")
		before := f.status().Database.Generation
		whole, err := os.ReadFile(f.advisories())
		if err != nil {
			t.Fatal(err)
		}
		replace := func(b []byte) {
			t.Helper()
			name := filepath.Join(f.dir, "new")
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(name, f.advisories()); err != nil {
				t.Fatal(err)
			}
			later(time.Minute)
		}
		inside := slices.Clone(whole)
		inside[len(inside)-1] ^= 1
		for name, b := range map[string][]byte{"cut": whole[:len(whole)/2], "empty": {}, "changed within": inside} {
			replace(b)
			d := f.status().Database
			if d.Generation != before || d.Error == "" || d.Remedy == "" || f.condition(images.PartAdvisories) == "" {
				t.Errorf("%s: %+v, condition %q", name, d, f.condition(images.PartAdvisories))
			}
		}
		later(time.Hour)
		if f.condition(images.PartAdvisories) == "" {
			t.Error("the condition does not stay")
		}
		if err := os.Remove(f.advisories()); err != nil {
			t.Fatal(err)
		}
		later(time.Minute)
		if d := f.status().Database; d.Generation != before || !strings.Contains(d.Error, "is gone") {
			t.Errorf("without a file: %+v", d)
		}
		f.restart()
		if d := f.status().Database; !d.Seeded || d.Error != "" || f.condition(images.PartAdvisories) != "" {
			t.Errorf("after a restart without a file: %+v", d)
		}
		replace(whole)
		if d := f.status().Database; d.Seeded || d.Generation != before {
			t.Errorf("with the whole file: %+v", d)
		}
		later(time.Minute)
		f.wantFound("in the end", "CVE-2026-0001 alpha", "CVE-2026-0002 beta")
		replace(inside)
		f.restart()
		if d := f.status().Database; !d.Seeded || d.Error == "" {
			t.Errorf("after a restart with a damaged file: %+v", d)
		}
	})
}

func TestAcceptance(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.scanned(web, "a")
		accept := func(n images.NewAcceptance) store.Acceptance {
			t.Helper()
			n.Reason, n.Expires = "not reachable", time.Now().Add(24*time.Hour)
			got, err := f.Accept(t.Context(), operator, n)
			if err != nil {
				t.Fatal(err)
			}
			later(2 * time.Second)
			return got
		}
		all := []string{"CVE-2026-0001 alpha", "CVE-2026-0002 beta"}
		rest := all[1:]

		made := accept(images.NewAcceptance{Vulnerability: "CVE-2026-0001"})
		f.wantFound("accepted", rest...)
		if c := f.image(web).Counts; c.Accepted != 1 || c.Critical != 0 || made.By != "user:otto" || made.ID == 0 {
			t.Errorf("counts %+v, acceptance %+v", c, made)
		}
		ended, err := f.EndAcceptance(t.Context(), operator, made.ID)
		if err != nil || ended.EndedBy != "user:otto" || !ended.Ended.Equal(time.Now()) {
			t.Errorf("ended %+v, %v", ended, err)
		}
		later(2 * time.Second)
		f.wantFound("taken back", all...)
		_, err = f.EndAcceptance(t.Context(), operator, made.ID)
		wantKind(t, err, fault.Conflict)
		_, err = f.EndAcceptance(t.Context(), operator, 999)
		wantKind(t, err, fault.NotFound)

		accept(images.NewAcceptance{Vulnerability: "CVE-2026-0001", Package: "gamma"})
		f.wantFound("of another package", all...)
		accept(images.NewAcceptance{Vulnerability: "CVE-2026-0001", Image: worker})
		f.wantFound("of another image", all...)
		accept(images.NewAcceptance{Vulnerability: "CVE-2026-0001", Image: "shop/2"})
		f.wantFound("of another repository", all...)
		accept(images.NewAcceptance{Vulnerability: "cve-2026-0001", Package: "pkg:pypi/alpha", Image: "shop/1"})
		f.wantFound("of this package and repository", rest...)
		later(23 * time.Hour)
		f.wantFound("an hour before it expires", rest...)
		later(time.Hour)
		f.wantFound("expired", all...)

		last := accept(images.NewAcceptance{Vulnerability: "CVE-2026-0002", Image: web})
		f.wantFound("of this image", all[:1]...)
		f.end()
		time.Sleep(48 * time.Hour)
		f.start()
		later(time.Minute)
		f.wantFound("expired while the server was away", all...)
		list, err := f.Acceptances(t.Context(), viewer)
		if err != nil || len(list) != 6 || list[0].ID != last.ID {
			t.Errorf("list %+v, %v", list, err)
		}
		lines, err := f.st.Audit(t.Context(), 0, 100)
		if err != nil || len(lines) != 7 {
			t.Errorf("%d lines in the audit log, %v", len(lines), err)
		}
		want := access.Audit{Actor: "user:otto", Action: "vulnerability.accept", Target: "vulnerability:CVE-2026-0002 image:" + web, Outcome: "done", Detail: lines[0].Detail}
		lines[0].ID, lines[0].Time = 0, time.Time{}
		if lines[0] != want || !strings.Contains(want.Detail, "not reachable") {
			t.Errorf("audit %+v", lines[0])
		}
	})
}

func TestAcceptanceByAnotherName(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		dsa := weakness("PYSEC-2026-7", "alpha", advisory.High)
		dsa.Upstream = []string{"CVE-2026-0001"}
		f.publish(dsa)
		later(time.Minute)
		a := f.join(one, container("a", web))
		a.answers(a.wish(1), pypi("alpha", "1"))
		f.wantFound("first", "CVE-2026-0001 alpha")
		_, err := f.Accept(t.Context(), operator, images.NewAcceptance{Vulnerability: "PYSEC-2026-7", Reason: "r", Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		later(2 * time.Second)
		f.wantFound("accepted by the name of the advisory")
	})
}

func TestAcceptancesThatAreNone(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		good := images.NewAcceptance{Vulnerability: "CVE-2026-0001", Reason: "r", Expires: time.Now().Add(time.Hour)}
		for name, change := range map[string]func(*images.NewAcceptance){
			"no weakness":           func(n *images.NewAcceptance) { n.Vulnerability = "" },
			"a sentence":            func(n *images.NewAcceptance) { n.Vulnerability = "all of them" },
			"no reason":             func(n *images.NewAcceptance) { n.Reason = " \n" },
			"a long reason":         func(n *images.NewAcceptance) { n.Reason = strings.Repeat("a", 2001) },
			"a reason in colour":    func(n *images.NewAcceptance) { n.Reason = "\x1b[31m" },
			"no end":                func(n *images.NewAcceptance) { n.Expires = time.Time{} },
			"an end in the past":    func(n *images.NewAcceptance) { n.Expires = time.Now() },
			"for years":             func(n *images.NewAcceptance) { n.Expires = time.Now().AddDate(2, 0, 0) },
			"a package in words":    func(n *images.NewAcceptance) { n.Package = "a b" },
			"an image with a tag":   func(n *images.NewAcceptance) { n.Image = "registry:5000/shop/web:1" },
			"an image by digest":    func(n *images.NewAcceptance) { n.Image = "shop/web@sha256:1" },
			"an image that is long": func(n *images.NewAcceptance) { n.Image = strings.Repeat("a", 513) },
		} {
			n := good
			change(&n)
			if _, err := f.Accept(t.Context(), operator, n); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got %v, want invalid", name, err)
			}
		}
		_, err := f.Accept(t.Context(), viewer, good)
		wantKind(t, err, fault.Denied)
		_, err = f.EndAcceptance(t.Context(), viewer, 1)
		wantKind(t, err, fault.Denied)
		_, err = f.Acceptances(t.Context(), access.Identity{})
		wantKind(t, err, fault.Unauthenticated)
		if list, err := f.st.Acceptances(t.Context()); len(list) != 0 || err != nil {
			t.Errorf("kept %v, %v", list, err)
		}
		good.Image = "registry:5000/shop/web"
		if _, err := f.Accept(t.Context(), operator, good); err != nil {
			t.Errorf("one that is in order: %v", err)
		}
	})
}

func TestWhatIsInUseComesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		f.scanned(web, "a")
		uses := func(agent, workload string, paths ...string) {
			f.send(link.Report{
				Agent: asset.Agent{ID: agent, Boot: "BOOTBOOT", Hostname: agent}, Uses: []asset.Use{{WorkloadID: workload, Paths: paths}},
			})
		}
		const so = "/usr/lib/python3/site-packages/beta/fast.so"
		f.report(two)
		uses(two, containerID("a"), so) // another agent's workload
		later(time.Minute)
		if c := f.image(web).Counts; c.InUse != 0 {
			t.Errorf("by the word of another agent: %+v", c)
		}
		uses(one, containerID("a"), so, "relative.so")
		later(9 * time.Second)
		if c := f.image(web).Counts; c.InUse != 0 {
			t.Errorf("at once: %+v", c)
		}
		later(2 * time.Second)
		f.wantFound("in use", "CVE-2026-0002 beta", "CVE-2026-0001 alpha")
		if c := f.image(web).Counts; c.InUse != 1 {
			t.Errorf("counts %+v", c)
		}
		matched := f.image(web).Scan.Matched
		uses(one, containerID("a"), so)
		later(time.Minute)
		if again := f.image(web).Scan.Matched; !again.Equal(matched) {
			t.Error("compared anew because of what was known")
		}
		f.publish(weakness("CVE-2026-0004", "alpha", advisory.Critical), weakness("CVE-2026-0005", "beta", advisory.Low))
		later(2 * time.Minute)
		f.wantFound("with other advisories", "CVE-2026-0005 beta", "CVE-2026-0004 alpha")
	})
}

func TestExecutedProgramsAreInUse(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		app := xnet
		mounted := inventory.Package{Type: "golang", Name: "golang.org/x/crypto", Version: "v0.1.0", Ecosystem: "Go", Places: []inventory.Place{{Path: "/mnt/tool"}}}
		a.answers(a.wish(1), app, mounted)
		exec := func(seq uint64, path string, x event.Exec) event.Event {
			return event.Event{
				Seq: seq, Time: time.Now(), Kind: event.KindExec, WorkloadID: containerID("a"), Exec: &x,
				Process: event.Process{Key: event.Key{PID: uint32(100 + seq), Start: seq}, Executable: path},
			}
		}
		f.send(link.Report{Agent: asset.Agent{ID: one, Boot: "BOOTBOOT"}, Events: []event.Event{
			exec(1, "/usr/local/bin/app", event.Exec{Origin: event.OriginImage}),
			exec(2, "/mnt/tool", event.Exec{Origin: event.OriginMount}),
		}})
		f.end() // before it was stored
		f.start()
		later(time.Minute)
		c := f.image(web).Counts
		if c.InUse == 0 || len(f.found(store.VulnerabilityQuery{ImageID: web, Package: "golang.org/x/crypto"})) == 0 {
			t.Errorf("counts %+v", c)
		}
		if used, err := f.st.Uses(t.Context(), web); !slices.Equal(used, []string{"/usr/local/bin/app"}) || err != nil {
			t.Errorf("in use: %v, %v", used, err)
		}
	})
}

func TestListenersEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last <-chan struct{}
		for range 256 {
			var err error
			if last, err = f.Changed(ctx, web); err != nil {
				t.Fatal(err)
			}
		}
		_, err := f.Changed(ctx, web)
		wantKind(t, err, fault.Exhausted)
		cancel()
		later(0)
		if _, open := <-last; open {
			t.Error("it is not closed")
		}
		if _, err := f.Changed(t.Context(), web); err != nil {
			t.Error(err)
		}
	})
}
