package console

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

func TestIsolationMarksWhatIsRisky(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings asset.Settings
		trait    string
		says     string
		tone     tone
	}{
		{"privileged", asset.Settings{Privileged: true}, "Privileged", "yes", danger},
		{"root by silence", asset.Settings{}, "User", "root", warn},
		{"root by number", asset.Settings{User: "0:0"}, "User", "root", warn},
		{"user", asset.Settings{User: "1000:1000"}, "User", "1000:1000", good},
		{"host network", asset.Settings{NetworkMode: "host"}, "Network", "the host's own", danger},
		{"host pids", asset.Settings{PIDMode: "host"}, "Processes", "the host's own", danger},
		{"neighbour's network", asset.Settings{NetworkMode: "container:0123456789abcdef"}, "Network", "shared with 0123456789ab", warn},
		{"harmless capability", asset.Settings{CapAdd: []string{"CHOWN"}}, "Capabilities", "added CHOWN", calm},
		{"risky capability, with prefix", asset.Settings{CapAdd: []string{"CAP_SYS_ADMIN"}}, "Capabilities", "added CAP_SYS_ADMIN", danger},
		{"all dropped", asset.Settings{CapDrop: []string{"ALL"}}, "Capabilities", "dropped ALL", good},
		{"unconfined", asset.Settings{SecurityOpt: []string{"seccomp=unconfined"}}, "Seccomp and AppArmor", "seccomp=unconfined", danger},
		{"no new privileges", asset.Settings{SecurityOpt: []string{"no-new-privileges"}}, "Seccomp and AppArmor", "no-new-privileges", good},
		{"no limits", asset.Settings{}, "Process limit", "none", warn},
		{"limits", asset.Settings{MemoryLimit: 256 << 20}, "Memory limit", "256 MiB", good},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, got := range isolation(asset.Workload{Settings: tc.settings}) {
				if got.Name != tc.trait {
					continue
				}
				if got.Says != tc.says || got.Tone != tc.tone {
					t.Errorf("got %q (%s), want %q (%s)", got.Says, got.Tone, tc.says, tc.tone)
				}
				if got.Tone == danger && got.Why == "" {
					t.Error("a risk without a reason")
				}
				return
			}
			t.Errorf("no trait %q", tc.trait)
		})
	}
	if got := isolation(asset.Workload{Partial: true}); got != nil {
		t.Errorf("of a partial workload nothing is known, got %v", got)
	}
}

func TestMountTrait(t *testing.T) {
	for _, tc := range []struct {
		mount asset.Mount
		tone  tone
	}{
		{asset.Mount{Kind: "bind", Source: "/var/run/docker.sock", Target: "/s"}, danger},
		{asset.Mount{Kind: "bind", Source: "/var/run/docker.sock", Target: "/s", ReadOnly: true}, danger},
		{asset.Mount{Kind: "bind", Source: "/", Target: "/host"}, danger},
		{asset.Mount{Kind: "bind", Source: "/etc/", Target: "/e"}, danger},
		{asset.Mount{Kind: "bind", Source: "/etc", Target: "/e", ReadOnly: true}, warn},
		{asset.Mount{Kind: "bind", Source: "/srv/data", Target: "/d"}, calm},
		{asset.Mount{Kind: "volume", Source: "etc", Target: "/d"}, calm},
		{asset.Mount{Kind: "tmpfs", Target: "/tmp"}, calm},
	} {
		if got := mountTrait(tc.mount).Tone; got != tc.tone {
			t.Errorf("%s of %q: got %s, want %s", tc.mount.Kind, tc.mount.Source, got, tc.tone)
		}
	}
}

func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	well := asset.Agent{Seen: now.Add(-5 * time.Second), Engine: asset.Engine{Connected: true}, Sensors: []asset.Sensor{{Name: "process", State: asset.SensorRunning}}}
	for _, tc := range []struct {
		name   string
		change func(*asset.Agent)
		tone   tone
		health string
	}{
		{"well", func(*asset.Agent) {}, good, "reporting"},
		{"silent", func(a *asset.Agent) { a.Seen = now.Add(-time.Minute) }, danger, "silent"},
		{"losing", func(a *asset.Agent) { a.Losses = []asset.Loss{{Where: "ring", Count: 1}} }, warn, "losing events"},
		{"no engine", func(a *asset.Agent) { a.Engine = asset.Engine{} }, warn, "no engine"},
		{"sensor off", func(a *asset.Agent) { a.Sensors = []asset.Sensor{{State: asset.SensorOff}} }, good, "reporting"},
		{"sensor failed and losing", func(a *asset.Agent) {
			a.Losses = []asset.Loss{{Where: "ring", Count: 1}}
			a.Sensors = []asset.Sensor{{Name: "process", State: asset.SensorFailed, Reason: "no BTF"}}
		}, danger, "sensor failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := well
			tc.change(&a)
			got := judge(a, now)
			if got.Tone != tc.tone || got.Health != tc.health || (got.Tone == good || tc.name == "losing") != (len(got.Why) == 0) {
				t.Errorf("got %s %q %v, want %s %q", got.Tone, got.Health, got.Why, tc.tone, tc.health)
			}
		})
	}
}

func TestChart(t *testing.T) {
	since, until := lastHour(time.Date(2026, 11, 23, 12, 30, 40, 0, time.UTC))
	if got := until.Sub(since); got != time.Hour || until.Minute() != 31 {
		t.Fatalf("got %v to %v", since, until)
	}
	c := newChart([]store.Rate{
		{Start: since, Kind: event.KindExec, Count: 30},
		{Start: since, Kind: event.KindExit, Count: 12},
		{Start: since.Add(59 * time.Minute), Kind: event.KindFork, Count: 1},
		{Start: since.Add(-time.Minute), Kind: event.KindExec, Count: 1000},
		{Start: until, Kind: event.KindExec, Count: 1000},
		{Start: since, Kind: "later.kind", Count: 3},
	}, since, until)
	if c.Total != 46 || c.Peak.Count != 45 || c.Top != 50 {
		t.Errorf("got total %d, peak %d, top %d; want 46, 45, 50", c.Total, c.Peak.Count, c.Top)
	}
	if got, want := c.Layers[0].Path, "M0.13 1000H0.87V160H0.13ZM59.13 1000H59.87V980H59.13Z"; got != want {
		t.Errorf("processes: got %s, want %s", got, want)
	}
	if got, want := c.summary(), "46 events in the last hour, at most 45 in a minute, at 11:31 UTC."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := newChart(nil, since, until); got.Top == 0 || got.summary() != "No events in the last hour." {
		t.Errorf("empty: top %d, %q", got.Top, got.summary())
	}
}

func TestNumbersAndTimes(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(int64(1234567)): "1,234,567", count(-5): "0",
		size(0): "0 B", size(1536): "1.5 KiB", size(256 << 20): "256 MiB", size(1 << 63): "8192 PiB",
		lasted(350 * time.Microsecond): "350 µs", lasted(87 * time.Millisecond): "87 ms", lasted(3*time.Hour + 5*time.Minute): "3 h 5 min",
		lasted(-time.Second): "no time (the clock was set)", lasted(50 * time.Hour): "2 d 2 h",
		plural(1, "event", "events"): "1 event", plural(2000, "event", "events"): "2,000 events",
		exitWords(event.Exit{Code: 3}): "exit code 3", exitWords(event.Exit{Signal: 11, CoreDumped: true}): "killed by signal 11 (SIGSEGV), core dumped",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for n, want := range map[int64]int64{0: 10, 10: 10, 11: 20, 21: 50, 51: 100, 4_321: 5_000} {
		if got := roundUp(n); got != want {
			t.Errorf("roundUp(%d): got %d, want %d", n, got, want)
		}
	}
}

func TestOriginSentenceNamesTheLayer(t *testing.T) {
	image := []string{"sha256:a", "sha256:b"}
	for _, tt := range []struct {
		name  string
		layer event.Layer
		image []string
		want  string
	}{
		{"of the image", event.Layer{Number: 2, Of: 3}, image, "The file came with image layer 2 of 2 and is unchanged since."},
		{"of the engine", event.Layer{Number: 3, Of: 3}, image, "The file came with the engine's own layer and is unchanged since."},
		{"of an image that is not known", event.Layer{Number: 2, Of: 3}, nil, "The file came with layer 2 of 3 and is unchanged since."},
		{"not known", event.Layer{}, image, "The file came with the image and is unchanged since."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := originSentence(&event.Exec{Origin: event.OriginImage, Layer: tt.layer}, tt.image); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEveryOriginHasASentence(t *testing.T) {
	seen := map[string]event.Origin{}
	for _, o := range []event.Origin{event.OriginUnknown, event.OriginImage, event.OriginWritten, event.OriginMount, event.OriginMemory, event.OriginHost} {
		s := originSentence(&event.Exec{Origin: o}, nil)
		if other, ok := seen[s]; ok {
			t.Errorf("%q and %q share the sentence %q", o, other, s)
		}
		seen[s] = o
	}
	if got := cmp.Diff(originSentence(&event.Exec{Origin: event.OriginWritten, Deleted: true}, nil),
		"The file did not come with the image: it was written or changed after the container was made. It had been deleted by the time it ran."); got != "" {
		t.Error(got)
	}
}
