package decide_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/decide"
)

func verify(t testing.TB, s *stage, at time.Time) decide.Verdict {
	t.Helper()
	v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, at)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// How long a verdict is remembered.
func TestCacheUntil(t *testing.T) {
	for _, tc := range []struct {
		name, rules string
		put         func(s *stage)
		want        time.Duration
	}{
		{"at most", one, func(s *stage) { s.put(image, "x", s.by("a"), nil) }, decide.MaxKept},
		{"denial", one, func(s *stage) {}, decide.DenialKept},
		{"what the door said", one, func(s *stage) {
			s.put(image, "x", with(s.by("a"), func(x *signature.Signed) { x.Until = now.Add(time.Minute) }), nil)
		}, time.Minute},
		{"the signer's wish", one, func(s *stage) {
			s.put(image, "x", with(s.by("a"), func(x *signature.Signed) { x.Expiry = now.Add(time.Hour) }), nil)
		}, time.Hour},
		{"the key's end", one, func(s *stage) {
			s.put(image, "x", with(s.by("ending"), func(x *signature.Signed) { x.Proof = signature.Claimed }), nil)
		}, time.Hour},
		{"the key's end, time proven", one, func(s *stage) { s.put(image, "x", s.by("ending"), nil) }, decide.MaxKept},
		{"the attestation's age", scan, func(s *stage) {
			s.put(image, "x", attestation(s.by("a"), vuln, scanned(now.Add(-7*day+time.Minute))), nil)
		}, time.Minute},
		{"the exception's end", one + exception(image.Digest, `"2026-03-01T12:30:00Z"`), func(s *stage) {}, 30 * time.Minute},
		{"a condition on the clock", `  - {match: "**", attestations: [{type: vuln, signers: [build], condition: 'now > timestamp("2026-01-01T00:00:00Z")'}]}`, func(s *stage) {
			s.put(image, "x", attestation(s.by("a"), vuln, "{}"), nil)
		}, time.Minute},
		{"the earliest of two", two, func(s *stage) {
			s.put(image, "x", with(s.by("a"), func(x *signature.Signed) { x.Until = now.Add(3 * time.Hour) }), nil)
			s.put(image, "y", with(s.by("b"), func(x *signature.Signed) { x.Until = now.Add(2 * time.Hour) }), nil)
		}, 2 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setStage(t, tc.rules)
			tc.put(s)
			s.decider.Cache = decide.NewCache(0)
			if got := verify(t, s, now).Until.Sub(now); got != tc.want {
				t.Fatalf("holds for %s, want %s", got, tc.want)
			}
			asked := s.registry.asked
			verify(t, s, now.Add(tc.want-time.Second))
			if s.registry.asked != asked {
				t.Error("asked again too early")
			}
			verify(t, s, now.Add(tc.want))
			if s.registry.asked != asked+1 {
				t.Error("not asked again when it must be")
			}
		})
	}
}

// A registry that answers differently the second time changes nothing while the
// first answer holds: what was verified is a digest.
func TestRegistryThatChangesItsMind(t *testing.T) {
	s := setStage(t, one)
	s.decider.Cache = decide.NewCache(0)
	s.put(image, "x", s.by("a"), nil)
	if !verify(t, s, now).Allowed {
		t.Fatal("denied")
	}
	s.registry.about = nil
	if v := verify(t, s, now.Add(time.Hour)); !v.Allowed || s.registry.asked != 1 {
		t.Errorf("got %v after %d questions", v.Allowed, s.registry.asked)
	}
	if v := verify(t, s, now.Add(decide.MaxKept)); v.Allowed {
		t.Error("allowed for ever")
	}
}

func TestSignatureThatComesLater(t *testing.T) {
	s := setStage(t, one)
	s.decider.Cache = decide.NewCache(0)
	if verify(t, s, now).Allowed {
		t.Fatal("allowed")
	}
	s.put(image, "x", s.by("a"), nil)
	if verify(t, s, now.Add(time.Second)).Allowed {
		t.Error("a denial is not remembered at all")
	}
	if v := verify(t, s, now.Add(decide.DenialKept)); !v.Allowed {
		t.Error("a denial is remembered too long")
	}
}

func TestClockThatIsSetBack(t *testing.T) {
	s := setStage(t, one)
	s.decider.Cache = decide.NewCache(0)
	s.put(image, "x", with(s.by("a"), signedAt(now.Add(-day))), nil)
	verify(t, s, now)
	if v := verify(t, s, now.Add(-2*day)); v.Allowed {
		t.Error("a verdict of the future is believed")
	}
	if s.registry.asked != 2 {
		t.Errorf("asked %d times", s.registry.asked)
	}
}

// The same image under other names, indexes and policies is another question.
func TestCacheKey(t *testing.T) {
	s := setStage(t, "  - {match: ghcr.io/acme/**, require: [{signers: [build]}]}\n  - {match: docker.io/**, deny: \"no\"}")
	s.decider.Cache = decide.NewCache(0)
	s.put(image, "x", s.by("a"), nil)
	s.put(index, "y", s.by("a"), nil)
	ask := func(i decide.Image) bool {
		v, err := s.decider.Verify(t.Context(), i, now)
		if err != nil {
			t.Fatal(err)
		}
		return v.Allowed
	}
	elsewhere := image
	elsewhere.Repository = "docker.io/acme/shop"
	if !ask(decide.Image{Subject: image}) || ask(decide.Image{Subject: elsewhere}) || !ask(decide.Image{Subject: image, Index: &index}) {
		t.Error("verdicts are mixed up")
	}
	if n := s.decider.Cache.Len(); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
	other := setStage(t, "  - {match: \"**\", deny: \"no\"}")
	other.decider.Cache = s.decider.Cache
	if verify(t, other, now).Allowed {
		t.Error("another policy's verdict is taken")
	}
}

func TestCacheIsBounded(t *testing.T) {
	s := setStage(t, one)
	s.decider.Cache = decide.NewCache(10)
	for i := range 100 {
		if _, err := s.decider.Verify(t.Context(), decide.Image{Subject: signature.Subject{Digest: digest(fmt.Sprint(i))}}, now); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.decider.Cache.Len(); n != 10 {
		t.Errorf("%d entries, want 10", n)
	}
	asked := s.registry.asked
	for _, i := range []int{99, 90} { // the last ones are kept
		if _, err := s.decider.Verify(t.Context(), decide.Image{Subject: signature.Subject{Digest: digest(fmt.Sprint(i))}}, now); err != nil {
			t.Fatal(err)
		}
	}
	if s.registry.asked != asked {
		t.Error("the last entries are gone")
	}
}

// Verdicts that tell of many false signatures take more room.
func TestCacheIsBoundedInBytes(t *testing.T) {
	s := setStage(t, one)
	s.decider.Cache = decide.NewCache(0)
	const images = 350
	for i := range images {
		d := digest(fmt.Sprint("image", i))
		for j := range decide.MaxOpened {
			name := fmt.Sprint(i, " ", j)
			s.opener.says[name] = func() (signature.Signed, error) {
				return signature.Signed{}, signature.Refuse(signature.Forged, "%s", strings.Repeat("x", 5000))
			}
			s.registry.about[d] = append(s.registry.about[d], signature.Envelope{Digest: digest(name), MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Payload: []byte(name)})
		}
		v, err := s.decider.Verify(t.Context(), decide.Image{Subject: signature.Subject{Digest: d}}, now)
		if err != nil || len(v.Signatures) != decide.MaxOpened || len(v.Signatures[0].Detail) > 1000 {
			t.Fatalf("got %d signatures, %v", len(v.Signatures), err)
		}
	}
	if n := s.decider.Cache.Len(); n > 250 || n < 50 {
		t.Errorf("%d entries of some 300 kilobytes", n)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	s := setStage(t, one)
	s.decider.Cache = decide.NewCache(0)
	s.put(image, "x", s.by("a"), nil)
	started, release := make(chan struct{}), make(chan struct{})
	s.registry.hook = func(n int) {
		if n == 1 {
			close(started)
			<-release
		}
	}
	var wait sync.WaitGroup
	ask := func() {
		v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now)
		if err != nil || !v.Allowed {
			t.Errorf("got %v, %v", v.Allowed, err)
		}
	}
	wait.Go(ask)
	<-started
	for range 50 {
		wait.Go(ask)
	}
	close(release)
	wait.Wait()
	if s.registry.asked != 1 {
		t.Errorf("asked %d times", s.registry.asked)
	}
}

// Who waits for somebody who gives up asks himself.
func TestWaitingForOneWhoGivesUp(t *testing.T) {
	s := setStage(t, one)
	s.decider.Cache = decide.NewCache(0)
	s.put(image, "x", s.by("a"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	started, release := make(chan struct{}), make(chan struct{})
	s.registry.hook = func(n int) {
		if n == 1 {
			close(started)
			<-release
		}
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, err := s.decider.Verify(ctx, decide.Image{Subject: image}, now); !errors.Is(err, context.Canceled) {
			t.Errorf("the first got %v", err)
		}
	})
	<-started
	wait.Go(func() {
		if v, err := s.decider.Verify(t.Context(), decide.Image{Subject: image}, now); err != nil || !v.Allowed {
			t.Errorf("the second got %v, %v", v.Allowed, err)
		}
	})
	cancel()
	close(release)
	wait.Wait()
}

func BenchmarkVerifyWarm(b *testing.B) {
	s := setStage(b, two)
	s.decider.Cache = decide.NewCache(0)
	s.put(image, "x", s.by("a"), nil)
	s.put(image, "y", s.by("b"), nil)
	verify(b, s, now)
	took := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		begin := time.Now()
		v, err := s.decider.Verify(b.Context(), decide.Image{Subject: image}, now)
		if len(took) < cap(took) {
			took = append(took, time.Since(begin))
		}
		if err != nil || !v.Allowed {
			b.Fatal(v.Reason, err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

// What deciding costs beside finding and opening.
func BenchmarkVerifyCold(b *testing.B) {
	s := setStage(b, two)
	for _, k := range []string{"a", "b", "c", "d"} {
		s.put(image, "x"+k, s.by(k), nil)
	}
	for b.Loop() {
		if v := verify(b, s, now); !v.Allowed {
			b.Fatal(v.Reason)
		}
	}
}
