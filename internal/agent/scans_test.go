package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// scanning is a world with images, whose server wants scans.
type scanning struct {
	*directing
	mu      sync.Mutex
	scan    func(ctx context.Context, id string) ([]byte, error)
	busy    int
	most    int // scans at once
	scanned []string
	take    func(link.Scanned) error
	answers []link.Scanned
}

// Analysis is that of agent.Scanner.
func (s *scanning) Analysis() int { return 7 }

func (s *scanning) ScanImage(ctx context.Context, w link.ScanWish) ([]byte, error) {
	id, reference := w.ImageID, w.Reference
	s.mu.Lock()
	s.busy++
	s.most = max(s.most, s.busy)
	s.scanned = append(s.scanned, reference)
	scan := s.scan
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.busy--; s.mu.Unlock() }()
	if scan == nil {
		return []byte(reference), nil
	}
	return scan(ctx, id)
}

func (s *scanning) Inventory(_ context.Context, a link.Scanned) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.take != nil {
		if err := s.take(a); err != nil {
			return err
		}
	}
	s.answers = append(s.answers, a)
	return nil
}

// answered returns the answers in short.
func (s *scanning) answered() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.answers {
		all = append(all, fmt.Sprintf("%s %s%s final=%v", a.Job, a.Inventory, a.Error, a.Final))
	}
	return all
}

func whileScanning(t *testing.T, play func(t *testing.T, s *scanning)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scanning{directing: &directing{
			world: &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)},
			give:  make(chan link.Directive), lose: make(chan error),
		}}
		a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: s, Sensors: s, Host: s, Server: s, Scanner: s}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		settle(time.Second)
		play(t, s)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func wish(job string, span time.Duration) link.Directive {
	issued := time.Now().Add(-24 * time.Hour) // a server whose clock is a day behind
	return link.Directive{ID: job, Kind: link.DirectiveScan, Issued: issued, Scan: &link.ScanWish{
		Job: job, ImageID: digest("a"), Reference: "web:" + job, Until: issued.Add(span),
	}}
}

func TestAbilitiesFollowTheEngine(t *testing.T) {
	whileScanning(t, func(t *testing.T, s *scanning) {
		if got := s.last().Agent.Abilities; got != nil {
			t.Errorf("without an engine: %q", got)
		}
		s.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}}
		settle(time.Minute)
		if diff := cmp.Diff([]string{link.AbilityScan, "analysis-7"}, s.last().Agent.Abilities); diff != "" {
			t.Errorf("with an engine (-want +got):\n%s", diff)
		}
	})
	underDirection(t, func(t *testing.T, d *directing) { // scanning is off
		d.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}}
		d.give <- wish("1", time.Hour)
		settle(time.Minute)
		if got := d.last().Agent.Abilities; got != nil {
			t.Errorf("without a scanner: %q", got)
		}
	})
}

func TestImagesAreScannedOneByOneAndEachJobOnce(t *testing.T) {
	whileScanning(t, func(t *testing.T, s *scanning) {
		s.scan = func(context.Context, string) ([]byte, error) { time.Sleep(time.Second); return []byte("inv"), nil }
		for _, job := range []string{"1", "2", "1", "3"} {
			s.give <- wish(job, time.Hour)
		}
		settle(time.Minute)
		s.give <- wish("2", time.Hour) // as after a reconnection
		settle(time.Minute)
		if diff := cmp.Diff([]string{"1 inv final=false", "2 inv final=false", "3 inv final=false"}, s.answered()); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if s.most != 1 {
			t.Errorf("%d scans at once, want 1", s.most)
		}
	})
}

func TestWhatCannotBeScannedIsAnswered(t *testing.T) {
	for _, tc := range []struct {
		name  string
		image string
		out   []byte
		err   error
		want  string
	}{
		{"gone", digest("a"), nil, fault.New(fault.NotFound, "no such image"), "1 no such image final=false"},
		{"hostile", digest("a"), nil, fault.New(fault.Exhausted, "a bomb"), "1 a bomb final=true"},
		{"no digest", "../etc", nil, nil, ""},
		{"too large", digest("a"), make([]byte, link.MaxInventory+1), nil, "1 inventory has 16777217 bytes final=true"},
		{"nothing", digest("a"), nil, nil, "1 inventory has 0 bytes final=true"},
		{"a long error", digest("a"), nil, fault.New(fault.Corrupt, "%s", strings.Repeat("x", 2*link.MaxScanText)), "1 " + strings.Repeat("x", link.MaxScanText) + " final=false"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			whileScanning(t, func(t *testing.T, s *scanning) {
				s.scan = func(context.Context, string) ([]byte, error) { return tc.out, tc.err }
				w := wish("1", time.Hour)
				w.Scan.ImageID = tc.image
				s.give <- w
				settle(time.Minute)
				got := s.answered()
				if len(got) != 1 || tc.want != "" && got[0] != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				if err := s.answers[0].Check(); err != nil {
					t.Errorf("the answer is none: %v", err)
				}
				if missing := fault.Is(tc.err, fault.NotFound); s.answers[0].Missing != missing {
					t.Errorf("missing: got %v, want %v", s.answers[0].Missing, missing)
				}
				if tc.want == "" && len(s.scanned) > 0 {
					t.Errorf("%q was scanned", tc.image)
				}
			})
		})
	}
}

func TestAnswersAreSentUntilTheTimeIsOver(t *testing.T) {
	for _, tc := range []struct {
		name  string
		err   error
		tries int // at least
		most  int
	}{
		{"the server is away", fault.New(fault.Unavailable, "away"), 10, 1000},
		{"the job is another's", fault.New(fault.Conflict, "no longer yours"), 1, 1},
		{"an old server", fault.New(fault.Unsupported, "takes no inventories"), 1, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			whileScanning(t, func(t *testing.T, s *scanning) {
				tries := 0
				s.take = func(link.Scanned) error { tries++; return tc.err }
				s.give <- wish("1", 10*time.Minute)
				settle(20 * time.Minute)
				if tries < tc.tries || tries > tc.most {
					t.Errorf("%d tries, want %d to %d", tries, tc.tries, tc.most)
				}
				before := tries
				settle(time.Hour)
				if tries != before {
					t.Errorf("%d tries after the time was over", tries-before)
				}
				s.mu.Lock()
				s.take = nil
				s.mu.Unlock()
				s.give <- wish("2", 10*time.Minute)
				settle(time.Minute)
				if got := s.answered(); len(got) != 1 || got[0] != "2 web:2 final=false" {
					t.Errorf("the next one: got %q", got)
				}
			})
		})
	}
}

func TestAScanEndsWithItsTimeAndWithTheAgent(t *testing.T) {
	forever := func(ctx context.Context, _ string) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	whileScanning(t, func(t *testing.T, s *scanning) {
		s.scan = forever
		s.give <- wish("1", time.Minute)
		s.give <- wish("late", time.Minute)
		settle(2 * time.Minute)
		s.give <- wish("2", time.Hour) // is under way when the agent stops
		settle(time.Minute)
		if diff := cmp.Diff([]string{"web:1", "web:2"}, s.scanned); diff != "" {
			t.Errorf("scanned (-want +got):\n%s", diff)
		}
	})
}

func TestManyWishesAreBounded(t *testing.T) {
	whileScanning(t, func(t *testing.T, s *scanning) {
		s.scan = func(context.Context, string) ([]byte, error) { time.Sleep(time.Minute); return []byte("inv"), nil }
		for i := range 1000 {
			s.give <- wish(fmt.Sprint(i), 2*time.Hour)
		}
		settle(3 * time.Hour)
		if n := len(s.answered()); n < 60 || n > 66 {
			t.Errorf("%d answers, want about 64", n)
		}
	})
}
