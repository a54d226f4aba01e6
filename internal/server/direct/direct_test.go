package direct_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/direct"
)

const (
	one = "AGENTAAAAAAAA"
	two = "AGENTBBBBBBBB"
)

var operator = access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}

// memory is what is kept, with the semantics of store.Store.
type memory struct {
	mu     sync.Mutex
	kept   map[string]asset.AgentSettings
	lines  []string
	broken error
}

func (m *memory) PutAgentSettings(_ context.Context, id string, s asset.AgentSettings) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[id] = s
	return nil
}

func (m *memory) AgentSettings(_ context.Context, id string) (asset.AgentSettings, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[id], m.broken
}

func (m *memory) AppendAudit(_ context.Context, a access.Audit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, a.Actor+" "+a.Action+" "+a.Target)
	return nil
}

// listener collects what one agent is told.
type listener struct {
	mu   sync.Mutex
	told []link.Directive
	end  chan error
	stop context.CancelFunc
}

func listen(t *testing.T, h *direct.Hub, id string) *listener {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &listener{end: make(chan error, 1), stop: stop}
	go func() {
		l.end <- h.Directives(ctx, link.Caller{AgentID: id}, func(d link.Directive) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.told = append(l.told, d)
		})
	}()
	synctest.Wait()
	return l
}

// off returns which sensors each of the settings told switches off, and "?"
// for a snapshot.
func (l *listener) off() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.told {
		if d.Kind == link.DirectiveSnapshot {
			all = append(all, "?")
			continue
		}
		all = append(all, strings.Join(d.Settings.SensorsOff, "+"))
	}
	return all
}

// inBubble runs play with a hub; when everybody waits, everything that a change
// causes has happened, and no time has passed.
func inBubble(t *testing.T, play func(t *testing.T, h *direct.Hub, m *memory)) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{kept: map[string]asset.AgentSettings{}}
		play(t, direct.New(m, time.Now, slog.New(slog.DiscardHandler)), m)
	})
}

func sensorsOff(names ...string) asset.AgentSettings { return asset.AgentSettings{SensorsOff: names} }

func TestChangesReachThoseTheyAreFor(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, m *memory) {
		m.kept[""] = sensorsOff("file")
		began := time.Now()
		a, b := listen(t, h, one), listen(t, h, two)
		put := func(id string, s asset.AgentSettings) {
			if err := h.PutSettings(t.Context(), operator, id, s); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		put(one, sensorsOff("dns"))
		put(one, sensorsOff("dns")) // the same wish is not told twice
		put("", sensorsOff("network"))
		put(one, asset.AgentSettings{})
		if diff := cmp.Diff([]string{"file", "dns", "network"}, a.off()); diff != "" {
			t.Errorf("the one with settings of its own (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"file", "network"}, b.off()); diff != "" {
			t.Errorf("the one without (-want +got):\n%s", diff)
		}
		if passed := time.Since(began); passed != 0 {
			t.Errorf("it took %s", passed)
		}
		if want := "user:otto agent.settings agents"; !slices.Contains(m.lines, want) || len(m.lines) != 4 {
			t.Errorf("audit log %q, want 4 lines with %q", m.lines, want)
		}
		a.stop()
		if err := <-a.end; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		b.stop()
		<-b.end
	})
}

func TestSnapshotIsAskedForOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, m *memory) {
		if err := h.AskSnapshot(t.Context(), operator, one); !fault.Is(err, fault.NotFound) {
			t.Errorf("of who is away: got %v, want not found", err)
		}
		l := listen(t, h, one)
		if err := h.AskSnapshot(t.Context(), operator, one); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := h.PutSettings(t.Context(), operator, one, sensorsOff("dns")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"", "?", "dns"}, l.off()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		l.stop()
		<-l.end
	})
}

func TestASecondStreamEndsTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, m *memory) {
		first, second := listen(t, h, one), listen(t, h, one)
		if err := <-first.end; !fault.Is(err, fault.Unavailable) {
			t.Errorf("the first ended with %v, want unavailable", err)
		}
		if err := h.PutSettings(t.Context(), operator, one, sensorsOff("dns")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"", "dns"}, second.off()); diff != "" {
			t.Errorf("the second was told (-want +got):\n%s", diff)
		}
		second.stop()
		<-second.end
	})
}

func TestAStoreThatFailsEndsTheStream(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, m *memory) {
		l := listen(t, h, one)
		m.mu.Lock()
		m.broken = fault.New(fault.Unavailable, "disk")
		m.mu.Unlock()
		if err := h.PutSettings(t.Context(), operator, one, sensorsOff("dns")); err != nil {
			t.Fatal(err)
		}
		if err := <-l.end; !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v, want unavailable: the agent connects again", err)
		}
	})
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, m *memory) {
		for name, s := range map[string]asset.AgentSettings{
			"a sensor's name":    sensorsOff("No such thing!"),
			"many sensors":       sensorsOff(make([]string, 33)...),
			"a relative path":    {SensitivePaths: []string{"etc/shadow"}},
			"a path with ..":     {SensitivePaths: []string{"/a/../b"}},
			"everything":         {SensitivePaths: []string{"/"}},
			"a control code":     {SensitivePaths: []string{"/a\x1b[2J"}},
			"no text":            {SensitivePaths: []string{"/a\xff"}},
			"a long path":        {SensitivePaths: []string{"/" + strings.Repeat("a", 1024)}},
			"many paths":         {SensitivePaths: make([]string, 201)},
			"a negative window":  {Window: -time.Second},
			"a tiny window":      {Window: time.Millisecond},
			"a window of a week": {Window: 7 * 24 * time.Hour},
		} {
			if err := h.PutSettings(t.Context(), operator, one, s); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got %v, want invalid", name, err)
			}
		}
		if err := h.PutSettings(t.Context(), operator, "no id!", sensorsOff("dns")); !fault.Is(err, fault.Invalid) {
			t.Errorf("an id that is none: got %v, want invalid", err)
		}
		if len(m.kept) != 0 || len(m.lines) != 0 {
			t.Errorf("kept %v, audited %v", m.kept, m.lines)
		}
		good := asset.AgentSettings{SensorsOff: []string{"file", "dns"}, SensitivePaths: []string{"/etc/app/*.key"}, Window: time.Minute}
		if err := h.PutSettings(t.Context(), operator, one, good); err != nil {
			t.Errorf("in order: %v", err)
		}
	})
}

func TestRights(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, m *memory) {
		viewer := access.Identity{Actor: "user:vera", Scopes: access.Viewer.Scopes()}
		if err := h.PutSettings(t.Context(), viewer, one, sensorsOff("dns")); !fault.Is(err, fault.Denied) {
			t.Errorf("a viewer changes: got %v, want denied", err)
		}
		if err := h.AskSnapshot(t.Context(), viewer, one); !fault.Is(err, fault.Denied) {
			t.Errorf("a viewer asks: got %v, want denied", err)
		}
		if _, _, err := h.Settings(t.Context(), viewer, one); err != nil {
			t.Errorf("a viewer looks: %v", err)
		}
		if _, _, err := h.Settings(t.Context(), access.Identity{}, one); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("nobody looks: got %v, want unauthenticated", err)
		}
	})
}

func TestScanIsToldUntilItEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, _ *memory) {
		const hour = time.Hour
		wish := func(job string) link.ScanWish {
			return link.ScanWish{Job: job, ImageID: "sha256:1", Until: time.Now().Add(hour)}
		}
		jobs := func(l *listener) (all []string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, d := range l.told {
				if d.Kind == link.DirectiveScan {
					all = append(all, d.ID)
				}
			}
			return all
		}
		h.AskScan(one, wish("a")) // before it listens
		l := listen(t, h, one)
		other := listen(t, h, two)
		if ids := h.Listening(); len(ids) != 2 || !slices.Contains(ids, one) || !slices.Contains(ids, two) {
			t.Errorf("listening: %v", ids)
		}
		<-h.Joined()
		h.AskScan(one, wish("a"))
		if err := h.PutSettings(t.Context(), operator, one, sensorsOff("dns")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.AskScan(one, wish("b"))
		synctest.Wait()
		if diff := cmp.Diff([]string{"scan-a", "scan-b"}, jobs(l)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		h.EndScan(one, "a") // is not the wish any more
		l.stop()
		<-l.end
		l = listen(t, h, one)
		if diff := cmp.Diff([]string{"scan-b"}, jobs(l)); diff != "" {
			t.Errorf("told again (-want +got):\n%s", diff)
		}
		h.EndScan(one, "b")
		h.AskScan(two, wish("c"))
		l.stop()
		<-l.end
		other.stop()
		<-other.end
		time.Sleep(hour + 1)
		l, other = listen(t, h, one), listen(t, h, two)
		if n := len(jobs(l)) + len(jobs(other)); n != 0 {
			t.Errorf("told %d times of what has ended", n)
		}
		l.stop()
		<-l.end
		other.stop()
		<-other.end
	})
}

func TestBehaviourIsToldToTheAgentWhoseItIs(t *testing.T) {
	inBubble(t, func(t *testing.T, h *direct.Hub, _ *memory) {
		stamps := func(l *listener) (all []string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, d := range l.told {
				if d.Kind == link.DirectiveBehaviour {
					all = append(all, d.Behaviour.Stamp)
				}
			}
			return all
		}
		h.TellBehaviour(one, "a") // before it listens
		l, other := listen(t, h, one), listen(t, h, two)
		h.TellBehaviour(one, "a")
		synctest.Wait()
		h.TellBehaviour(one, "b")
		synctest.Wait()
		if diff := cmp.Diff([]string{"a", "b"}, stamps(l)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		l.stop()
		<-l.end
		h.TellBehaviour(one, "")
		l = listen(t, h, one)
		if n := len(stamps(l)) + len(stamps(other)); n != 0 {
			t.Errorf("told %d times of nothing", n)
		}
		l.stop()
		<-l.end
		other.stop()
		<-other.end
	})
}
