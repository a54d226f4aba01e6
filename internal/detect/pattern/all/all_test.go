package all_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect/engine"
	"github.com/castellan-security/castellan/internal/detect/pattern/all"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
)

var start = time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)

func TestEveryPackageIsListed(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("all.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "all" && !strings.Contains(string(b), fmt.Sprintf("{%[1]s.About, %[1]s.New}", e.Name())) {
			t.Errorf("internal/detect/pattern/%s is not in the list of all.go", e.Name())
		}
	}
}

func TestRulesSayWhatTheyLookAt(t *testing.T) {
	ids := map[string]bool{}
	for _, p := range all.Patterns() {
		about := p.About()
		if ids[about.ID] {
			t.Errorf("two rules are called %s", about.ID)
		}
		ids[about.ID] = true
		d, err := p.New(about)
		if err != nil {
			t.Errorf("%s: %v", about.ID, err)
			continue
		}
		var looks []event.Kind
		for _, e := range d.Entries() {
			looks = append(looks, e.Kinds...)
		}
		slices.Sort(looks)
		says := slices.Sorted(slices.Values(about.Kinds))
		if looks = slices.Compact(looks); !slices.Equal(looks, says) {
			t.Errorf("%s says that it looks at %v, and looks at %v", about.ID, says, looks)
		}
	}
}

func TestParametersAreHeldToTheirBounds(t *testing.T) {
	for _, p := range all.Patterns() {
		for i, param := range p.About().Parameters {
			var bad []string
			switch param.Type {
			case "int", "double":
				bad = []string{"-1", "9007199254740992", "many", ""}
			case "duration":
				bad = []string{"0s", "-1m", "80000h", "soon"}
			case "list(string)":
				if strings.Contains(param.Name, "ports") {
					bad = []string{"[http]", "[0]", "[70000]"}
				}
			default:
				t.Errorf("%s: parameter %s is a %s", p.About().ID, param.Name, param.Type)
			}
			for _, value := range bad {
				about := p.About()
				about.Parameters[i].Value = value
				if _, err := p.New(about); err == nil || !strings.Contains(err.Error(), param.Name) {
					t.Errorf("%s: parameter %s can be %q: %v", about.ID, param.Name, value, err)
				}
			}
		}
	}
}

// noise makes events of all kinds, with everything in them chosen by chance among so
// many, at times by which a clock steps and is wrong.
func noise(random *rand.Rand, n, among int, kinds []event.Kind) *event.Event {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	e := &event.Event{AgentID: "a", Boot: "b", Seq: uint64(n), Kind: kinds[random.IntN(len(kinds))], Time: start.Add(time.Duration(n) * time.Millisecond),
		WorkloadID: fmt.Sprint("w", random.IntN(among)), Group: fmt.Sprint("g", random.IntN(among))}
	switch random.IntN(200) {
	case 0:
		e.Time = time.Time{}
	case 1:
		e.Time = e.Time.Add(time.Duration(random.Int64N(int64(48 * time.Hour))))
	case 2:
		e.Count, e.Last = random.Uint64(), e.Time.Add(time.Duration(random.Int64N(int64(time.Minute))))
	}
	key := func() event.Key { return event.Key{PID: uint32(random.IntN(among)), Start: 1} }
	e.Process = event.Process{Key: key(), Parent: key(), Executable: "/bin/" + pick("sh", "x", "python3", "rm", "shred", "ping"), ContainerPID: uint32(random.IntN(3))}
	address := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(random.IntN(256)), byte(random.IntN(256)), byte(random.IntN(256)), byte(random.IntN(256))}), uint16(random.IntN(1<<16)))
	}
	if random.IntN(20) == 0 {
		return e // without its payload
	}
	switch e.Kind.Sensor() {
	case "process":
		e.Exec = &event.Exec{Args: []string{pick("sh", "x")}, Origin: event.Origin(pick("image", "written", "memory", ""))}
		e.Exit = &event.Exit{}
	case "file":
		e.File = &event.File{Path: fmt.Sprintf("/srv/%d/%d.%s", random.IntN(among), random.IntN(among), pick("jpg", "jpg.x", "", "log")), To: pick("", "/x/y.locked", "y"), Flags: []string{"write"}}
	case "network":
		e.Connection = &event.Connection{Protocol: pick("tcp", "udp", "icmp", "raw"), Remote: address(), Local: address(), Incoming: random.IntN(2) == 0, Error: pick("", "", "ECONNREFUSED"),
			BytesSent: random.Uint64N(1 << 40), BytesReceived: random.Uint64N(1 << 20), PacketsSent: random.Uint64N(1 << 30), Duration: time.Duration(random.Int64N(int64(time.Hour))), Name: pick("", "x.example")}
	case "dns":
		e.DNS = &event.DNS{Name: fmt.Sprintf("%x.%s%d.example", random.Uint64(), pick("", "a.", "."), random.IntN(among)), Type: pick("A", "TXT"), Code: pick("NOERROR", "NXDOMAIN"), Size: random.IntN(1000)}
	case "trail":
		digest := fmt.Sprintf("sha256:%064x", random.Uint64())
		e.Call = &event.Call{ID: fmt.Sprint(n), Account: fmt.Sprintf("%012d", random.IntN(among)), Region: "eu-west-1", Service: "ecr", Name: "PutImage",
			Source: address().Addr().String(), Agent: pick("aws-cli/2", "Boto3/1", "x/1"), Endpoint: pick("", "vpce-1"),
			Actor:    event.Actor{Type: "AssumedRole", Name: "r", ARN: fmt.Sprintf("arn:%032x", random.IntN(among)), Session: fmt.Sprintf("%032x", random.IntN(among)), Role: fmt.Sprint("role-", random.IntN(among))},
			Request:  json.RawMessage(fmt.Sprintf(`{"repositoryName":"r%d","imageTag":"t%d"}`, random.IntN(among), random.IntN(among))),
			Response: json.RawMessage(`{"image":{"imageId":{"imageDigest":"` + digest + `"}}}`)}
	case "resource":
		e.Resource = &event.Resource{What: pick("pids", "cpu"), Used: random.Uint64(), Limit: random.Uint64()}
	}
	return e
}

// held is how many bytes an engine with these rules holds after many events, each of
// another container, group and process.
func held(t *testing.T, kinds []event.Kind, detectors ...rule.Detector) int64 {
	t.Helper()
	const events = 30_000
	random := rand.New(rand.NewPCG(1, 2))
	before := heap()
	e := engine.New(engine.Options{Rules: detectors})
	for n := range events {
		e.Observe(noise(random, n, 1<<30, kinds))
	}
	after := heap()
	for _, s := range e.Stats() {
		if s.Errors > 0 {
			t.Errorf("%d errors: %s", s.Errors, s.Error)
		}
		if s.Looked == 0 {
			t.Errorf("%s looked at nothing", s.Rule)
		}
	}
	return after - before
}

// Whatever comes, nothing breaks, and what is remembered does not grow without end.
func TestStateIsBoundedWhateverComes(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes many events")
	}
	engineAlone := held(t, event.Kinds())
	for _, p := range all.Patterns() {
		about := p.About()
		t.Run(about.ID, func(t *testing.T) {
			d, err := p.New(about)
			if err != nil {
				t.Fatal(err)
			}
			// Without bounds 30,000 containers would take 4 to 12 MiB.
			const most = 7 << 19
			if own := held(t, about.Kinds, d) - engineAlone; own > most {
				t.Errorf("it holds %d MiB", own>>20)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkPattern is what each rule costs an event that it looks at, in what twenty
// containers do by chance.
func BenchmarkPattern(b *testing.B) {
	for _, p := range append([]all.Pattern{{}}, all.Patterns()...) {
		name, detectors := "none", []rule.Detector(nil)
		looks := event.Kinds()
		if p.About != nil {
			d, err := p.New(p.About())
			if err != nil {
				b.Fatal(err)
			}
			name, detectors = p.About().ID, []rule.Detector{d}
			looks = p.About().Kinds
		}
		random := rand.New(rand.NewPCG(1, 2))
		var events []*event.Event
		for n := 0; len(events) < 10_000; n++ {
			if e := noise(random, n, 20, looks); e != nil {
				e.Time, e.Last, e.Count = start, time.Time{}, 0
				events = append(events, e)
			}
		}
		b.Run(name, func(b *testing.B) {
			e := engine.New(engine.Options{Rules: detectors})
			b.ReportAllocs()
			for i := range b.N {
				ev := events[i%len(events)]
				ev.Time, ev.Seq = start.Add(time.Duration(i)*100*time.Microsecond), uint64(i)
				e.Observe(ev)
			}
		})
	}
}
