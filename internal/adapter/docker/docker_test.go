package docker_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// web is the container of testdata, as an engine of 20.10 tells of it.
func web() asset.Workload {
	started := time.Date(2026, 11, 23, 20, 4, 13, 249766334, time.UTC)
	return asset.Workload{
		ID:   webID,
		Name: "ecs-storefront-7-web-c0ffee",
		ECS: asset.ECS{
			Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Family: "storefront", Revision: "7",
			TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/shop/0123456789abcdef0123456789abcdef",
			TaskID:  "0123456789abcdef0123456789abcdef", Container: "web",
		},
		Group: "shop/storefront/web",
		Image: asset.Image{
			Reference: "shop/web:1.4",
			ID:        "sha256:112ac05b694aeef4c33ac1ef57515a12e6e88491682c341a557f506afbb73da8",
			Digest:    "sha256:" + strings.Repeat("ab", 32),
			Layers:    []string{"sha256:b52395d70fdf4185611e070e9788bc3026ae1dc7579c288d0f6097b6ddab0b10"},
		},
		State:   asset.Running,
		PID:     30712,
		Created: time.Date(2026, 11, 23, 20, 4, 12, 875661592, time.UTC),
		Started: &started,
		Settings: asset.Settings{
			User: "1000:1000", Entrypoint: []string{"sleep", "3600"}, ReadOnlyRoot: true,
			NetworkMode: "default", IPCMode: "private",
			CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
			Addresses: []netip.Addr{netip.MustParseAddr("172.17.0.2")},
			Ports: []asset.Port{
				{Protocol: "tcp", Port: 8080, HostAddr: netip.MustParseAddr("0.0.0.0"), HostPort: 18080},
				{Protocol: "tcp", Port: 8080, HostAddr: netip.MustParseAddr("::"), HostPort: 18080},
				{Protocol: "udp", Port: 9090},
			},
			Mounts: []asset.Mount{
				{Kind: "bind", Source: "/srv/data", Target: "/data", ReadOnly: true},
				{Kind: "tmpfs", Target: "/scratch"},
			},
			MemoryLimit: 256 << 20, PidsLimit: 100,
		},
	}
}

var same = cmp.Options{
	cmpopts.IgnoreFields(asset.Workload{}, "Updated"),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestEnginesOfAllAges(t *testing.T) {
	for _, tt := range []struct {
		name, api, files string
		version          string // that is spoken
		engine           asset.Engine
		change           func(*asset.Workload)
	}{
		{"18.09, older than the client supports", "1.39", "1.41", "1.39", asset.Engine{Name: "Docker Engine", Version: "20.10.24+dfsg1"}, nil},
		{"20.10", "1.41", "1.41", "1.41", asset.Engine{Name: "Docker Engine", Version: "20.10.24+dfsg1"}, nil},
		{"today's", "1.56", "1.56", "1.56", asset.Engine{Name: "Docker Engine - Community", Version: "30.0.0"}, func(w *asset.Workload) {
			w.Settings.Addresses = append(w.Settings.Addresses, netip.MustParseAddr("fd00:213::2"))
		}},
		{"tomorrow's", "9.99", "1.56", "1.56", asset.Engine{Name: "Docker Engine - Community", Version: "30.0.0"}, func(w *asset.Workload) {
			w.Settings.Addresses = append(w.Settings.Addresses, netip.MustParseAddr("fd00:213::2"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, tt.api, tt.files)
			got := watch(t, "unix://"+f.socket).complete(t, 1)
			tt.engine.APIVersion, tt.engine.Connected = tt.version, true
			if diff := cmp.Diff(tt.engine, got.Engine); diff != "" {
				t.Errorf("engine (-want +got):\n%s", diff)
			}
			want := web()
			if tt.change != nil {
				tt.change(&want)
			}
			if diff := cmp.Diff([]asset.Workload{want}, got.Workloads, same); diff != "" {
				t.Errorf("workloads (-want +got):\n%s", diff)
			}
			if f.count("/containers/"+webID+"/json") != 1 {
				t.Errorf("asked %q, want one inspection", f.asked)
			}
		})
	}
}

// A recorded stream of a container's start leads to an inspection, in the form
// of either age.
func TestRecordedEvents(t *testing.T) {
	for _, age := range []string{"1.41", "1.56"} {
		t.Run(age, func(t *testing.T) {
			lines, err := os.ReadFile(filepath.Join("testdata", age, "events.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			f := serve(t, age, age)
			f.say("/containers/json", "[]")
			w := watch(t, "unix://"+f.socket)
			if got := w.complete(t, 1); len(got.Workloads) != 0 {
				t.Fatalf("workloads = %+v, want none yet", got.Workloads)
			}
			f.stream <- string(lines)
			got := w.until(t, webID, "running", in(asset.Running))
			if got.ECS != web().ECS || got.Partial {
				t.Errorf("workload = %+v", got)
			}
		})
	}
}

// The subscription comes before the list, and a container that comes and goes
// while the list is made is recorded.
func TestNothingFallsBetween(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	f.answer("/containers/json", func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range []string{
			event("create", id("a"), 1, ""), event("start", id("a"), 2, ""),
			event("die", id("a"), 3, `"name":"job","image":"shop/job:1","exitCode":"7"`), event("destroy", id("a"), 4, ""),
		} {
			f.stream <- line
		}
		f.file(w, "list.json")
	})
	w := watch(t, "unix://"+f.socket)
	// Asked about between its start and its end it is gone already; how it ended
	// its events say, a moment later.
	got := w.until(t, id("a"), "recorded with how it ended", func(w asset.Workload) bool {
		return w.State == asset.Exited && w.ExitCode != nil
	})
	if *got.ExitCode != 7 || !got.Partial {
		t.Errorf("workload = %+v, want exit code 7, partial", got)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	order := strings.Join(f.asked, " ")
	if e, l := strings.Index(order, "/events"), strings.Index(order, "/containers/json"); e < 0 || l < e {
		t.Errorf("asked %q, want events before the list", f.asked)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.all[0].Complete {
		t.Errorf("first inventory = %+v, want it complete", w.all[0])
	}
}

// A container that is gone when it is asked for is what its events said.
func TestGoneBeforeInspected(t *testing.T) {
	at := func(second int64) *time.Time { v := time.Unix(second, 0).UTC(); return &v }
	code := func(n int) *int { return &n }
	const named = `"name":"job","image":"shop/job:1"`
	ecs := named + `,"com.amazonaws.ecs.cluster":"arn:aws:ecs:eu-west-1:123456789012:cluster/shop",` +
		`"com.amazonaws.ecs.task-arn":"arn:aws:ecs:eu-west-1:123456789012:task/090eff9b-1ce3-4db6-848a-a8d14064fd24",` +
		`"com.amazonaws.ecs.task-definition-family":"worker","com.amazonaws.ecs.task-definition-version":"3",` +
		`"com.amazonaws.ecs.container-name":"~internal~ecs~pause"`
	gone := asset.Workload{
		ID: id("b"), Name: "job", Group: "docker/job", Image: asset.Image{Reference: "shop/job:1"},
		State: asset.Exited, Created: *at(1), Partial: true,
	}
	with := func(change func(*asset.Workload)) asset.Workload { w := gone; change(&w); return w }
	for _, tt := range []struct {
		name   string
		events []string
		want   asset.Workload
	}{
		{"a whole life", []string{
			event("create", id("b"), 1, named), event("start", id("b"), 2, named),
			event("die", id("b"), 3, named+`,"exitCode":"137"`), event("destroy", id("b"), 4, named),
		}, with(func(w *asset.Workload) { w.Started, w.Finished, w.ExitCode = at(2), at(3), code(137) })},
		{"ECS identity of the pause container, old ARN", []string{
			event("create", id("b"), 1, ecs), event("start", id("b"), 2, ecs), event("die", id("b"), 3, ecs+`,"exitCode":"0"`), event("destroy", id("b"), 4, ecs),
		}, with(func(w *asset.Workload) {
			w.Started, w.Finished, w.ExitCode = at(2), at(3), code(0)
			w.Group = "shop/worker/~internal~ecs~pause"
			w.ECS = asset.ECS{
				Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Family: "worker", Revision: "3",
				TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/090eff9b-1ce3-4db6-848a-a8d14064fd24",
				TaskID:  "090eff9b-1ce3-4db6-848a-a8d14064fd24", Container: "~internal~ecs~pause",
			}
		})},
		{"never started", []string{event("create", id("b"), 1, named), event("destroy", id("b"), 2, named)}, gone},
		{"out of memory", []string{
			event("create", id("b"), 1, named), event("start", id("b"), 2, named), event("oom", id("b"), 2, named),
			event("die", id("b"), 3, named+`,"exitCode":"137"`), event("destroy", id("b"), 4, named),
		}, with(func(w *asset.Workload) {
			w.Started, w.Finished, w.ExitCode, w.OOMKilled = at(2), at(3), code(137), true
		})},
		{"renamed", []string{
			event("create", id("b"), 1, `"name":"before","image":"shop/job:1"`), event("rename", id("b"), 2, named), event("destroy", id("b"), 4, named),
		}, gone},
		{"a label covers the exit code", []string{
			event("create", id("b"), 1, named+`,"exitCode":"0"`), event("start", id("b"), 2, named+`,"exitCode":"0"`),
			event("die", id("b"), 3, named+`,"exitCode":"0"`), event("destroy", id("b"), 4, named+`,"exitCode":"0"`),
		}, with(func(w *asset.Workload) { w.Started, w.Finished = at(2), at(3) })},
		{"a label covers the exit code, and nothing follows", []string{
			event("create", id("b"), 1, named+`,"exitCode":"0"`), event("start", id("b"), 2, named+`,"exitCode":"0"`),
			event("die", id("b"), 3, named+`,"exitCode":"0"`),
		}, with(func(w *asset.Workload) { w.Started, w.Finished = at(2), at(3) })},
		{"hostile text", []string{
			event("create", id("b"), 1, `"name":"a\u001b[2J\u0000`+strings.Repeat("x", 5000)+`","image":"i\u0007"`), event("destroy", id("b"), 2, `"name":"job","image":"i\u0007"`),
		}, with(func(w *asset.Workload) { w.Image.Reference = "i\ufffd" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, "1.41", "1.41")
			f.say("/containers/json", "[]")
			w := watch(t, "unix://"+f.socket)
			w.complete(t, 1)
			f.stream <- strings.Join(tt.events, "")
			got := w.until(t, id("b"), "recorded to its end", func(got asset.Workload) bool {
				return cmp.Equal(tt.want, got, same) || got.Name == "job" && got.State == asset.Exited && got.Finished != nil
			})
			if diff := cmp.Diff(tt.want, got, same); diff != "" {
				t.Errorf("workload (-want +got):\n%s", diff)
			}
		})
	}
}

// A label that covers the exit code is found out whenever events come apart,
// and a code that an inspection told stays.
func TestExitCodeOfALabel(t *testing.T) {
	const labelled = `"name":"job","image":"shop/job:1","exitCode":"0"`
	for _, tt := range []struct {
		name, first, second string
	}{
		{"known before its end", event("start", id("b"), 1, labelled), event("die", id("b"), 2, labelled)},
		{"found out afterwards", event("die", id("b"), 1, labelled), event("destroy", id("b"), 2, labelled)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, "1.41", "1.41")
			f.say("/containers/json", "[]")
			w := watch(t, "unix://"+f.socket)
			w.complete(t, 1)
			f.stream <- tt.first
			w.until(t, id("b"), "seen", anyState)
			f.stream <- tt.second
			w.until(t, id("b"), "ended, with an unknown code", func(w asset.Workload) bool {
				return w.Finished != nil && w.ExitCode == nil
			})
		})
	}
	t.Run("told by an inspection", func(t *testing.T) {
		f := serve(t, "1.41", "1.41")
		f.say("/containers/json", `[{"Id":"`+id("b")+`","State":"exited"}]`)
		f.say("/containers/"+id("b")+"/json", `{"Id":"`+id("b")+`","Name":"/job","Config":{"Labels":{"exitCode":"0"}},`+
			`"State":{"Status":"exited","ExitCode":3,"FinishedAt":"2026-11-23T20:04:13Z"}}`)
		w := watch(t, "unix://"+f.socket)
		w.complete(t, 1)
		f.answer("/containers/"+id("b")+"/json", notFound)
		f.stream <- event("destroy", id("b"), 2, `"name":"renamed","image":"shop/job:1","exitCode":"0"`)
		got := w.until(t, id("b"), "destroyed", func(w asset.Workload) bool { return w.Name == "renamed" })
		if got.ExitCode == nil || *got.ExitCode != 3 {
			t.Errorf("exit code = %v, want the inspection's 3", got.ExitCode)
		}
	})
}

// What was known in full stays known when the end is only told by events.
func TestKnownThenGone(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	w := watch(t, "unix://"+f.socket)
	w.complete(t, 1)
	f.answer("/containers/"+webID+"/json", notFound)
	f.stream <- event("die", webID, 1895464252, `"name":"ecs-storefront-7-web-c0ffee","image":"shop/web:1.4","exitCode":"9"`) +
		event("destroy", webID, 1895464252, `"name":"ecs-storefront-7-web-c0ffee","image":"shop/web:1.4"`)
	got := w.until(t, webID, "ended", in(asset.Exited))
	want, code, finished := web(), 9, time.Unix(1895464252, 0).UTC()
	want.State, want.PID, want.ExitCode, want.Finished = asset.Exited, 0, &code, &finished
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("workload (-want +got):\n%s", diff)
	}
	w.wait(t, "that it was removed", func(all []asset.Inventory) bool {
		return slices.ContainsFunc(all, func(inv asset.Inventory) bool { return slices.Equal(inv.Removed, []string{webID}) })
	})
}

// A restart storm costs inspections by time, not by event.
func TestStormIsCollected(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	w := watch(t, "unix://"+f.socket)
	w.complete(t, 1)
	began := time.Now()
	const rounds = 500
	for range rounds {
		f.stream <- event("die", webID, 5, "") + event("start", webID, 5, "")
	}
	f.stream <- event("create", id("c"), 6, "") // the end of the storm
	w.until(t, id("c"), "seen", anyState)
	most := int(time.Since(began)/(50*time.Millisecond)) + 3
	if got := f.count("/containers/" + webID + "/json"); got > most {
		t.Errorf("%d inspections for %d restarts in %s, want at most %d", got, rounds, time.Since(began), most)
	}
}

// A container that was removed is not asked for: the engine has nothing to say of it.
func TestRemovedIsNotAskedFor(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	w := watch(t, "unix://"+f.socket)
	w.complete(t, 1)
	before := f.count("/containers/" + webID + "/json")
	f.stream <- event("destroy", webID, 5, `"name":"web"`)
	w.wait(t, "that it was removed", func(all []asset.Inventory) bool {
		return slices.ContainsFunc(all, func(inv asset.Inventory) bool { return slices.Equal(inv.Removed, []string{webID}) })
	})
	if got := f.count("/containers/" + webID + "/json"); got != before {
		t.Errorf("it was asked for %d times", got-before)
	}
}

// Whoever looks on is told before the engine is asked, and gets its answer as it came.
func TestOnlookers(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	e, err := docker.New(docker.Options{Host: "unix://" + f.socket}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	path := "/containers/" + webID + "/json"
	answers, told := make(chan json.RawMessage, 10), 0
	e.Share(func(container string) func(json.RawMessage) {
		if before := f.count(path); container != webID || before != told {
			t.Errorf("told of %s for the %dth time when the engine had been asked %d times", container, told, before)
		}
		told++
		return func(answer json.RawMessage) { answers <- answer }
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Watch(ctx, func(asset.Inventory) {}) }()
	var in struct {
		ID string `json:"Id"`
	}
	if err := json.Unmarshal(<-answers, &in); err != nil || in.ID != webID {
		t.Errorf("got the answer of %q, %v", in.ID, err)
	}
	f.answer(path, notFound)
	f.stream <- event("pause", webID, 5, "")
	if answer := <-answers; answer != nil {
		t.Errorf("got %s of what is not there", answer)
	}
	cancel()
	<-done
}

// What cannot be read makes the door look at everything again.
func TestUnreadableEvents(t *testing.T) {
	for _, tt := range []struct{ name, line string }{
		{"longer than is read", event("create", id("d"), 1, `"x":"`+strings.Repeat("x", 2<<20)+`"`)},
		{"not JSON", "{]\n"},
		{"no container in it", event("create", "../../images", 1, "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, "1.41", "1.41")
			w := watch(t, "unix://"+f.socket)
			w.complete(t, 1)
			f.stream <- tt.line
			w.complete(t, 2)
			f.stream <- event("create", id("e"), 2, "")
			w.until(t, id("e"), "seen afterwards", anyState)
		})
	}
}

// One container that the engine cannot or will not tell of in full is told as
// far as it is known, and hides no other.
func TestHostileInspection(t *testing.T) {
	list := func(ids ...string) string {
		var b strings.Builder
		for _, i := range ids {
			b.WriteString(`,{"Id":"` + i + `","Names":["/other/alias","/job"],"Image":"shop/job:1","Created":1,"State":"running","Labels":{}}`)
		}
		return "[" + strings.TrimPrefix(b.String(), ",") + "]"
	}
	for _, tt := range []struct {
		name, answer string
		partial      bool
		fits         func(asset.Workload) bool
	}{
		{"malformed address costs itself", `{"Id":"` + id("f") + `","Name":"/job","State":{"Status":"running"},"NetworkSettings":{` +
			`"Ports":{"80/tcp":[{"HostIp":"not-an-ip","HostPort":"80"},{"HostIp":"","HostPort":"99999"}],"x/tcp":[]},"Networks":{"n":{"IPAddress":"1.2.3"}}}}`, false,
			func(w asset.Workload) bool {
				return len(w.Settings.Ports) == 1 && w.Settings.Ports[0].HostPort == 80 && len(w.Settings.Addresses) == 0
			}},
		{"about another container", `{"Id":"` + webID + `"}`, true, nil},
		{"of another shape", `{"Id":"` + id("f") + `","State":[]}`, true, nil},
		{"endless", `{"Id":"` + id("f") + `","x":"` + strings.Repeat("x", 5<<20) + `"}`, true, nil},
		{"not JSON", `<html>`, true, nil},
		{"a state of the future", `{"Id":"` + id("f") + `","Name":"/job","State":{"Status":"hibernating"}}`, false, in(asset.Running)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, "1.41", "1.41")
			f.say("/containers/json", list(webID, id("f")))
			f.say("/containers/"+id("f")+"/json", tt.answer)
			got := watch(t, "unix://"+f.socket).complete(t, 1)
			if len(got.Workloads) != 2 || got.Workloads[0].Name != web().Name {
				t.Fatalf("workloads = %+v, want both", got.Workloads)
			}
			w := got.Workloads[1]
			if w.Name != "job" || w.Partial != tt.partial || tt.fits != nil && !tt.fits(w) {
				t.Errorf("workload = %+v, want its name, and partial %v", w, tt.partial)
			}
		})
	}
}

func TestAway(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	refusing := func(path string, status int) string {
		f := serve(t, "1.41", "1.41")
		f.answer(path, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"message":"plugin says \u001b[2J no"}`))
		})
		return f.socket
	}
	for _, tt := range []struct {
		name, socket string
		mentions     []string
	}{
		{"no socket", filepath.Join(dir, "none"), []string{"no container engine at unix://", "is dockerd running?"}},
		{"a socket nobody listens on", stale, []string{"nothing listens at unix://", "is dockerd running?"}},
		{"version refused", refusing("/version", 403), []string{"answered 403", "plugin says \ufffd[2J no"}},
		{"list fails", refusing("/containers/json", 500), []string{"list containers", "answered 500"}},
		{"events refused", refusing("/events", 400), []string{"subscribe to engine events", "answered 400"}},
		{"sends elsewhere", refusing("/version", 302), []string{"answered 302"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := watch(t, "unix://"+tt.socket)
			w.wait(t, "the reason", func(all []asset.Inventory) bool { return len(all) > 0 })
			w.mu.Lock()
			defer w.mu.Unlock()
			got := w.all[0]
			if got.Engine.Connected || got.Complete {
				t.Errorf("inventory = %+v, want the engine away", got)
			}
			for _, m := range tt.mentions {
				if !strings.Contains(got.Engine.Error, m) {
					t.Errorf("error = %q, want it to mention %q", got.Engine.Error, m)
				}
			}
		})
	}
}

// An engine that goes away is said to be, and asked from where it stopped when
// it is back.
func TestReconnect(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	w := watch(t, "unix://"+f.socket)
	w.complete(t, 1)
	f.stream <- event("create", id("a"), 1895464252, "")
	w.until(t, id("a"), "seen", anyState)
	f.disconnect()
	w.wait(t, "word that it is away", func(all []asset.Inventory) bool {
		return slices.ContainsFunc(all, func(inv asset.Inventory) bool {
			return !inv.Engine.Connected && strings.Contains(inv.Engine.Error, "is dockerd still running?")
		})
	})
	w.complete(t, 2)
	f.mu.Lock()
	defer f.mu.Unlock()
	if got, want := f.since[1], "1895464252.000000001"; got != want {
		t.Errorf("second subscription since %s, want %s: right after the last event", got, want)
	}
}

// Whatever an engine keeps Watch waiting for, the end of its context ends it,
// and nothing of it stays behind.
func TestWatchEnds(t *testing.T) {
	for _, path := range []string{"/_ping", "/version", "/events", "/containers/json", "/containers/" + webID + "/json", ""} {
		t.Run("waiting for "+path, func(t *testing.T) {
			f := serve(t, "1.41", "1.41")
			reached := make(chan struct{}, 100)
			if path != "" {
				f.answer(path, func(_ http.ResponseWriter, r *http.Request) {
					reached <- struct{}{}
					<-r.Context().Done()
				})
			}
			w := watch(t, "unix://"+f.socket)
			if path != "" {
				<-reached
			} else {
				w.complete(t, 1)
			}
			if err := w.stop(); err == nil || !strings.Contains(err.Error(), "canceled") {
				t.Errorf("Watch() = %v, want the context's error", err)
			}
			late := time.Now().Add(patience)
			for {
				stacks := make([]byte, 1<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				if !strings.Contains(string(stacks), "adapter/docker.") {
					return
				}
				if time.Now().After(late) {
					t.Fatalf("a goroutine of the door is left:\n%s", stacks)
				}
				runtime.Gosched()
			}
		})
	}
}

func TestNew(t *testing.T) {
	t.Setenv("DOCKER_CERT_PATH", "")
	for _, tt := range []struct {
		name, host, env string
		ok              bool
	}{
		{"default", "", "", true},
		{"environment", "", "tcp://127.0.0.1:2375", true},
		{"option before environment", "unix:///run/docker.sock", "nonsense", true},
		{"nonsense", "docker.sock", "", false},
		{"nonsense in environment", "", "nonsense", false},
		{"ssh", "ssh://host", "", false},
		{"path longer than a socket's", "unix:///" + strings.Repeat("x", 200), "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", tt.env)
			_, err := docker.New(docker.Options{Host: tt.host}, slog.New(slog.DiscardHandler))
			if (err == nil) != tt.ok {
				t.Fatalf("New(%q) = %v, want ok: %v", tt.host, err, tt.ok)
			}
			if err != nil && (!fault.Is(err, fault.Invalid) || fault.Remedy(err) == "") {
				t.Errorf("New(%q) = %v of kind %s, want invalid with a remedy", tt.host, err, fault.Of(err))
			}
		})
	}
}

func TestBrokenCertificates(t *testing.T) {
	t.Setenv("DOCKER_CERT_PATH", t.TempDir())
	_, err := docker.New(docker.Options{Host: "tcp://127.0.0.1:2376"}, slog.New(slog.DiscardHandler))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Remedy(err), "DOCKER_CERT_PATH") {
		t.Errorf("New with an empty folder of certificates = %v, want invalid, naming DOCKER_CERT_PATH", err)
	}
}

// A container that was made is told at once: before the engine has answered what it
// is asked about it.
func TestMadeContainersAreAnnounced(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	f.say("/containers/json", "[]")
	asked, answer := make(chan struct{}), make(chan struct{})
	f.answer("/containers/"+id("a")+"/json", func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-answer
		notFound(w, r)
	})
	door, err := docker.New(docker.Options{Host: "unix://" + f.socket}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	made := make(chan asset.Workload, 2)
	door.Announce(func(w asset.Workload) { made <- w })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = door.Watch(ctx, func(asset.Inventory) {}) }()
	defer func() { cancel(); <-done }()
	defer close(answer)
	f.stream <- event("create", id("a"), 1, `"name":"job","image":"shop/job:1","com.amazonaws.ecs.cluster":"shop","com.amazonaws.ecs.task-definition-family":"job","com.amazonaws.ecs.container-name":"web"`)
	f.stream <- event("start", id("a"), 2, "")
	got := <-made
	want := asset.Workload{ID: id("a"), Name: "job", State: asset.Created, Created: time.Unix(1, 0).UTC(), ECS: asset.ECS{Cluster: "shop", Family: "job", Container: "web"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
	<-asked // and looked into as well
	select {
	case w := <-made:
		t.Errorf("%+v is announced, and was not made", w)
	default:
	}
}
