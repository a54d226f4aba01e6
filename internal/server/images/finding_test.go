package images_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/store"
)

// answersWith sends an inventory with secrets and files.
func (n *node) answersWith(w link.ScanWish, secrets []inventory.Secret, files ...inventory.File) {
	n.f.t.Helper()
	inv := inventory.Inventory{
		Subject: inventory.Subject{Kind: inventory.KindImage, Name: w.Reference}, Analysis: n.f.analysis, Packages: []inventory.Package{},
		Image: &inventory.Image{
			ID: w.ImageID, Platform: inventory.Platform{OS: "linux", Architecture: "amd64"},
			Layers: []inventory.Layer{{Instruction: "FROM base"}, {Instruction: "COPY keys /srv"}},
			Config: inventory.Config{User: "app", Healthcheck: []string{"CMD", "true"}},
		},
		Secrets: secrets, Files: files,
	}
	err := n.f.Inventory(context.Background(), link.Scanned{AgentID: n.id, Job: w.Job, ImageID: w.ImageID, Inventory: packed(n.f.t, inv)})
	if err != nil {
		n.f.t.Fatal(err)
	}
	synctest.Wait()
}

func secretAt(path, rule, print string) inventory.Secret {
	return inventory.Secret{Place: inventory.Place{Path: path, Layer: 2}, Rule: rule, Line: 3, Length: 40, Same: "s" + print, Print: strings.Repeat(print, 32)}
}

// of returns what is known of a kind as "rule where", those of accepted ones with
// a sign.
func (f *fleet) of(kind store.FindingKind) (all []string) {
	f.t.Helper()
	for _, accepted := range []bool{false, true} {
		ls, err := f.st.FindingLines(context.Background(), store.FindingQuery{Kind: kind, Accepted: accepted})
		if err != nil {
			f.t.Fatal(err)
		}
		for _, l := range ls {
			s := fmt.Sprintf("%s ×%d", l.Rule, l.Images)
			if accepted {
				s = "accepted " + s
			}
			all = append(all, s)
		}
	}
	return all
}

func (f *fleet) wantOf(when string, kind store.FindingKind, want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.of(kind)); diff != "" {
		f.t.Errorf("%s of the fleet, %s (-want +got):\n%s", kind, when, diff)
	}
}

// TestSecretsAndFaultsAreKept: those of a scan, over the fleet, with the layer and
// its instruction; what is gone from the image is gone here.
func TestSecretsAndFaultsAreKept(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web), container("b", worker))
		token, key := secretAt("/srv/key", "github-pat", "a"), secretAt("/srv/id_rsa", "private-key", "b")
		suid := inventory.File{Place: inventory.Place{Path: "/usr/local/bin/do", Layer: 2}, Mode: 0o4755, Why: inventory.SetUID}
		first := a.wish(1)
		a.answersWith(first, []inventory.Secret{token, key}, suid)
		a.answersWith(a.wish(2), []inventory.Secret{token})
		f.wantOf("first", store.KindSecret, "private-key ×1", "github-pat ×2")
		found, err := f.st.FindingsIn(t.Context(), store.FindingQuery{Kind: store.KindSecret, ImageID: first.ImageID})
		if err != nil || len(found) != 2 || found[0].Secret.Path != "/srv/id_rsa" && found[0].Secret.Path != "/srv/key" || found[0].Instruction != "COPY keys /srv" {
			t.Errorf("in the image: %+v, %v", found, err)
		}
		var setuid bool
		faults, err := f.st.FindingsIn(t.Context(), store.FindingQuery{Kind: store.KindFault, ImageID: first.ImageID})
		for _, m := range faults {
			setuid = setuid || m.Fault.Subject == "/usr/local/bin/do" && m.Remedy != "" && m.Fault.Why != ""
		}
		if err != nil || !setuid {
			t.Errorf("faults of the image: %+v, %v; want the set-uid file", faults, err)
		}
		if c := f.image(first.ImageID).Counts; c.Secrets != 2 || c.Faults != len(faults) || c.Malware != 0 {
			t.Errorf("counts %+v", c)
		}
		if err := f.Rescan(t.Context(), operator, first.ImageID); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		a.answersWith(a.wish(3), []inventory.Secret{token})
		f.wantOf("scanned anew", store.KindSecret, "github-pat ×2")
	})
}

// TestMalwareIsKeptAndAccepted: by its rule, below a path.
func TestMalwareIsKeptAndAccepted(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		w := a.wish(1)
		miner := inventory.Malware{Place: inventory.Place{Path: "/tmp/.x", Layer: 2}, Rule: "miner_xmrig", Title: "XMRig", Kind: inventory.Miner, By: inventory.ByRule, Print: "p"}
		inv := inventory.Inventory{
			Subject: inventory.Subject{Kind: inventory.KindImage}, Analysis: f.analysis, Packages: []inventory.Package{}, Malware: []inventory.Malware{miner},
			Image: &inventory.Image{ID: w.ImageID, Layers: []inventory.Layer{{}, {Instruction: "RUN curl x | sh"}}},
		}
		if err := f.Inventory(t.Context(), link.Scanned{AgentID: one, Job: w.Job, ImageID: w.ImageID, Inventory: packed(t, inv)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f.wantOf("first", store.KindMalware, "miner_xmrig ×1")
		found, err := f.st.FindingsIn(t.Context(), store.FindingQuery{Kind: store.KindMalware})
		if err != nil || len(found) != 1 || found[0].Instruction != "RUN curl x | sh" || found[0].Malware.Why == "" || f.image(web).Counts.Malware != 1 {
			t.Errorf("found %+v, %v; counts %+v", found, err, f.image(web).Counts)
		}
		_, err = f.Accept(t.Context(), operator, images.NewAcceptance{
			Kind: store.KindMalware, Rule: "miner_xmrig", Path: "/tmp/*", Reason: "r", Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		later(2 * time.Second)
		f.wantOf("accepted", store.KindMalware, "accepted miner_xmrig ×1")
	})
}

// TestTooManySecretsAreTheGravest: a file of made-up keys does not fill the store.
func TestTooManySecretsAreTheGravest(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		var many []inventory.Secret
		for i := range 1_500 {
			s := secretAt(fmt.Sprintf("/srv/%04d", i), "generic-api-key", "a")
			s.Print = fmt.Sprintf("%032d", i)
			many = append(many, s)
		}
		grave := secretAt("/z/key", "github-pat", "b")
		a.answersWith(a.wish(1), append(many, grave))
		if c := f.image(web).Counts; c.Secrets != 1_000 {
			t.Errorf("%d secrets are kept, want 1,000", c.Secrets)
		}
		ls, err := f.st.FindingLines(t.Context(), store.FindingQuery{Kind: store.KindSecret, Limit: 1})
		if err != nil || len(ls) != 1 || ls[0].Rule != "github-pat" {
			t.Errorf("the first is %+v, %v; want the gravest", ls, err)
		}
	})
}

func TestAcceptanceOfSecretsAndFaults(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web), container("b", worker))
		token, test := secretAt("/srv/key", "github-pat", "a"), secretAt("/srv/test/deep/key", "github-pat", "b")
		suid := inventory.File{Place: inventory.Place{Path: "/usr/local/bin/do", Layer: 2}, Mode: 0o4755, Why: inventory.SetUID}
		a.answersWith(a.wish(1), []inventory.Secret{token, test}, suid)
		a.answersWith(a.wish(2), []inventory.Secret{token})
		all := []string{"github-pat ×2", "github-pat ×1"}
		if got := f.of(store.KindSecret); len(got) != 2 {
			t.Fatalf("first: %v, want %v", got, all)
		}
		ls, err := f.st.FindingLines(t.Context(), store.FindingQuery{Kind: store.KindFault, Text: "/usr/local/bin/do"})
		if err != nil || len(ls) != 1 {
			t.Fatalf("faults %+v, %v", ls, err)
		}
		check := ls[0].Rule
		for _, c := range []struct {
			name string
			n    images.NewAcceptance
			open int // secrets
			over int // and accepted ones
		}{
			{"by fingerprint", images.NewAcceptance{Kind: store.KindSecret, Rule: token.Print}, 1, 1},
			{"by fingerprint in one image", images.NewAcceptance{Kind: store.KindSecret, Rule: token.Print, Image: web}, 2, 1},
			{"by rule and path", images.NewAcceptance{Kind: store.KindSecret, Rule: "github-pat", Path: "/srv/test/**"}, 1, 1},
			{"by rule, of a repository", images.NewAcceptance{Kind: store.KindSecret, Rule: "github-pat", Image: "shop/2"}, 2, 1},
			{"by rule", images.NewAcceptance{Kind: store.KindSecret, Rule: "github-pat"}, 0, 2},
			{"another rule", images.NewAcceptance{Kind: store.KindSecret, Rule: "gitlab-pat"}, 2, 0},
			{"a fault", images.NewAcceptance{Kind: store.KindFault, Rule: check}, 2, 0},
		} {
			c.n.Reason, c.n.Expires = "known", time.Now().Add(time.Hour)
			made, err := f.Accept(t.Context(), operator, c.n)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			later(2 * time.Second)
			var open, over int
			for _, s := range f.of(store.KindSecret) {
				if strings.HasPrefix(s, "accepted") {
					over++
				} else {
					open++
				}
			}
			if open != c.open || over != c.over {
				t.Errorf("%s: %v", c.name, f.of(store.KindSecret))
			}
			if fs := f.of(store.KindFault); c.n.Kind == store.KindFault && !strings.Contains(strings.Join(fs, "\n"), "accepted "+check) {
				t.Errorf("%s: %v", c.name, fs)
			}
			if _, err := f.EndAcceptance(t.Context(), operator, made.ID); err != nil {
				t.Error(err)
			}
			later(2 * time.Second)
			if got := f.of(store.KindSecret); len(got) != 2 || strings.HasPrefix(got[0], "accepted") {
				t.Errorf("%s, taken back: %v", c.name, got)
			}
		}
		lines, err := f.st.Audit(t.Context(), 0, 100)
		if err != nil || len(lines) != 14 || lines[0].Action != "fault.unaccept" || lines[13].Target != "secret:"+token.Print {
			t.Errorf("audit log: %d lines, %+v", len(lines), lines)
		}
		short, err := f.Accept(t.Context(), operator, images.NewAcceptance{Kind: store.KindSecret, Rule: "github-pat", Reason: "r", Expires: time.Now().Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		later(2 * time.Minute)
		if got := f.of(store.KindSecret); len(got) != 2 || short.Holds(time.Now()) {
			t.Errorf("expired: %v", got)
		}
	})
}

func TestAcceptancesOfFindingsThatAreNone(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		for name, n := range map[string]images.NewAcceptance{
			"no such kind":          {Kind: "weather", Rule: "rain"},
			"no rule":               {Kind: store.KindSecret},
			"every secret":          {Kind: store.KindSecret, Rule: "secrets"},
			"all malware":           {Kind: store.KindMalware, Rule: "malware"},
			"a sentence":            {Kind: store.KindSecret, Rule: "all of them"},
			"a weakness beside":     {Kind: store.KindSecret, Rule: "jwt", Vulnerability: "CVE-2026-1"},
			"a package":             {Kind: store.KindSecret, Rule: "jwt", Package: "openssl"},
			"a path of a fault":     {Kind: store.KindFault, Rule: "CAST-1", Path: "/x"},
			"a path without a root": {Kind: store.KindSecret, Rule: "jwt", Path: "srv/**"},
			"a path that is none":   {Kind: store.KindSecret, Rule: "jwt", Path: "/[/**"},
			"a rule of a weakness":  {Vulnerability: "CVE-2026-1", Rule: "jwt"},
		} {
			n.Reason, n.Expires = "r", time.Now().Add(time.Hour)
			if _, err := f.Accept(t.Context(), operator, n); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got %v, want invalid", name, err)
			}
		}
		if _, err := f.Accept(t.Context(), operator, images.NewAcceptance{Kind: store.KindVulnerability, Vulnerability: "CVE-2026-1", Reason: "r", Expires: time.Now().Add(time.Hour)}); err != nil {
			t.Errorf("of a vulnerability, said so: %v", err)
		}
	})
}

// TestSaltGoesToAgentsAlone: with the wish, the same over a restart, and never into
// a log.
func TestSaltGoesToAgentsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		if w := a.wish(1); string(w.Salt) != string(theSalt) {
			t.Errorf("the agent got the salt %q", []byte(w.Salt))
		}
	})
	w := link.ScanWish{Job: "j", Salt: theSalt}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("wish", "wish", w, "salt", w.Salt)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("wish", "wish", w, "salt", w.Salt)
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %d", w, w, w, w.Salt, w.Salt, w.Salt, w.Salt) + log.String()
	for _, form := range []string{string(theSalt), fmt.Sprintf("%x", []byte(theSalt)), fmt.Sprint([]byte(theSalt)), base64.StdEncoding.EncodeToString(theSalt)} {
		if strings.Contains(shown, form) {
			t.Errorf("the salt is shown as %s in %s", form, shown)
		}
	}
	b, err := json.Marshal(w)
	var back link.ScanWish
	if err := json.Unmarshal(b, &back); err != nil || string(back.Salt) != string(theSalt) {
		t.Errorf("on the wire %s, %v", b, err)
	}
	if b, _ := json.Marshal(link.ScanWish{Job: "j"}); err != nil || strings.Contains(string(b), "salt") {
		t.Errorf("without a salt the wish is %s", b)
	}
}

func TestTrendOfAFleet(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		a := f.join(one, container("a", web))
		a.answersWith(a.wish(1), []inventory.Secret{secretAt("/srv/key", "github-pat", "a")})
		later(11 * time.Minute)
		stopped := container("a", web)
		stopped.State = asset.Exited
		f.report(one, stopped)
		later(24 * time.Hour)
		days, err := f.st.Trend(t.Context(), store.KindSecret, time.Now().AddDate(0, 0, -3))
		if err != nil || len(days) != 1 && len(days) != 2 {
			t.Fatalf("days %+v, %v", days, err)
		}
		var fresh, resolved int
		for _, d := range days {
			fresh += d.New
			resolved += d.Resolved
		}
		if last := days[len(days)-1]; fresh != 1 || resolved != 1 || last.Open != 0 || last.Severity != finding.High {
			t.Errorf("days %+v, want one new and then resolved", days)
		}
	})
}

// An image that moves in lists while owners are worked out is not passed over.
func TestOwnersOfImagesThatMove(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		last := fmt.Sprintf("sha256:%064d", store.MaxPage)
		var move sync.Once
		f := &fleet{t: t, dir: dir, analysis: scan.Analysis}
		var ready atomic.Bool
		f.moving = func(st *db.DB) {
			if !ready.Load() {
				return
			}
			move.Do(func() { // it is run now
				err := st.PutWorkloads(context.Background(), []asset.Workload{{ID: containerID("a"), AgentID: "a", State: asset.Running, Image: asset.Image{ID: last}}})
				if err != nil {
					t.Error(err)
				}
			})
		}
		f.start()
		defer f.end()
		var many []store.Image
		for n := range store.MaxPage + 1 {
			many = append(many, store.Image{ID: fmt.Sprintf("sha256:%064d", n), References: []string{"shop/app:1"}})
		}
		if _, err := f.st.NoteImages(t.Context(), many, time.Now()); err != nil {
			t.Fatal(err)
		}
		ready.Store(true)
		if err := f.SetOwner(t.Context(), operator, asset.OwnerRule{Image: "shop/*", Owner: asset.Owner{Name: "Shop"}}); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		for _, m := range []string{many[0].ID, many[store.MaxPage-1].ID, last} {
			if got := f.image(m).Owner; got != "Shop" {
				t.Errorf("image %s is %q's", m, got)
			}
		}
	})
}

func TestOwnersOfImages(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fleet) {
		paid := container("b", worker)
		paid.Group = "prod/pay/api"
		f.join(one, container("a", web), paid)
		set := func(r asset.OwnerRule) {
			t.Helper()
			if err := f.SetOwner(t.Context(), operator, r); err != nil {
				t.Fatal(err)
			}
			later(time.Second)
		}
		want := func(when, ofWeb, ofWorker string) {
			t.Helper()
			if a, b := f.image(web).Owner, f.image(worker).Owner; a != ofWeb || b != ofWorker {
				t.Errorf("%s: %q and %q, want %q and %q", when, a, b, ofWeb, ofWorker)
			}
		}
		group := string(f.group(containerID("b")))
		set(asset.OwnerRule{Image: "shop/*", Owner: asset.Owner{Name: "Shop", Contact: "#shop"}})
		want("by image", "Shop", "Shop")
		set(asset.OwnerRule{Group: group, Owner: asset.Owner{Name: "Payments"}})
		want("and by group", "Shop", "Payments")
		set(asset.OwnerRule{Image: "shop/*", Owner: asset.Owner{Name: "Store"}})
		want("replaced where it stands", "Store", "Payments")
		rules, err := f.Owners(t.Context(), viewer)
		if err != nil || len(rules) != 2 || rules[0].Name != "Store" {
			t.Errorf("rules %+v, %v", rules, err)
		}
		if err := f.RemoveOwner(t.Context(), operator, asset.OwnerRule{Group: group}); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		want("the group's rule is gone", "Store", "Store")
		f.report(one, container("c", imageID("3")))
		later(time.Second)
		if got := f.image(imageID("3")).Owner; got != "Store" {
			t.Errorf("a new image is %q's", got)
		}
		wantKind(t, f.RemoveOwner(t.Context(), operator, asset.OwnerRule{Group: group}), fault.NotFound)
		wantKind(t, f.SetOwner(t.Context(), viewer, rules[0]), fault.Denied)
		wantKind(t, f.RemoveOwner(t.Context(), viewer, rules[0]), fault.Denied)
		wantKind(t, f.SetOwner(t.Context(), operator, asset.OwnerRule{Image: "shop/web:1", Owner: asset.Owner{Name: "x"}}), fault.Invalid)
		wantKind(t, f.SetOwner(t.Context(), operator, asset.OwnerRule{Image: "shop/*", Owner: asset.Owner{Name: "x\x1b[31m"}}), fault.Invalid)
		wantKind(t, f.SetOwner(t.Context(), operator, asset.OwnerRule{Image: "shop/*", Owner: asset.Owner{Name: "x\u202ey"}}), fault.Invalid)
		_, err = f.Owners(t.Context(), access.Identity{})
		wantKind(t, err, fault.Unauthenticated)
	})
}
