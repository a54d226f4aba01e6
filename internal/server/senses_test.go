package server_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// sense reports one event of every kind, with every field of its payload set,
// and samples.
func (h *house) sense(t *testing.T) {
	t.Helper()
	h.report(t, "sh")
	at, uid := time.Now().Truncate(time.Millisecond), uint32(0)
	far := netip.MustParseAddrPort("93.184.216.34:443")
	r := link.Report{Agent: asset.Agent{ID: agentID, Boot: "BOOTBOOT", Hostname: "host-7", Version: "1"}}
	for _, k := range event.Kinds() {
		h.seq++
		e := event.Event{
			Seq: h.seq, Time: at, Kind: k, WorkloadID: shop, Count: 3, Last: at.Add(time.Second),
			Process: event.Process{Key: event.Key{PID: uint32(h.seq), Start: 5}, Name: "x", Executable: "/bin/x"},
			Exec:    &event.Exec{Args: []string{"x"}}, Exit: &event.Exit{Code: 1},
			File:       &event.File{Path: "/etc/shadow", To: "/b", Origin: event.OriginImage, Mode: 0o755, UID: &uid, Flags: []string{"write"}, Sensitive: "shadow", Error: "EPERM"},
			Connection: &event.Connection{Protocol: "tcp", Local: netip.MustParseAddrPort("10.0.0.2:40000"), Remote: far, Name: "example.org", BytesSent: 1},
			DNS:        &event.DNS{Protocol: "udp", Server: far, Name: "example.org", Type: "A", Code: "NOERROR", Answers: []string{"93.184.216.34"}},
			Privilege:  &event.Privilege{Call: "mount", Target: "/mnt", Flags: []string{"bind"}, Process: event.Key{PID: 1, Start: 1}, Gained: 3},
			Memory:     &event.Memory{Call: "mmap", Path: "/x.so", Protection: []string{"execute"}},
			Resource:   &event.Resource{What: "memory", Used: 1, Limit: 2},
			Reaction:   event.ReactionDenied, Calls: &event.Calls{Names: []string{"mount"}},
		}
		r.Events = append(r.Events, e)
	}
	for i := range 3 {
		r.Samples = append(r.Samples, asset.Sample{WorkloadID: shop, Time: at.Add(time.Duration(i-3) * time.Second), CPU: time.Duration(i) * time.Second, Memory: 1 << 20})
	}
	if _, err := h.Intake().Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestSensesAnswerAsTheDocumentSays(t *testing.T) {
	h := open(t, nil)
	h.sense(t)
	d := h.document(t)
	for path, route := range map[string]string{
		"/events?limit=1000": "/events", "/flows": "/flows",
		"/workloads/" + shop + "/samples?since=1h": "/workloads/{id}/samples", "/usage": "/usage", "/agents": "/agents",
	} {
		a := h.ask(t, "GET", "/api/v1"+path, nil, h.as(access.Viewer)...)
		if a.status != http.StatusOK {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
			continue
		}
		d.hold(t, d.Paths["/api/v1"+route]["get"], a)
	}
}

func TestFiltersOfTheSenses(t *testing.T) {
	h := open(t, nil)
	h.sense(t)
	var all store.EventPage
	h.ask(t, "GET", "/api/v1/events?limit=1000", nil, h.as(access.Viewer)...).into(t, &all)
	for filters, want := range map[string]int{
		"kind=file": 8, "kind=file.*,dns.query": 9, "kind=network.connect": 1, "path=/etc/*": 8, "path=/mnt&kind=privilege": 19,
		"path=/x.so": 3, "peer=93.184.216.34": 8, "peer=93.184.216.34:443": 8, "peer=93.184.216.34:80": 0, "peer=example.org": 10,
		"peer=example.org&kind=dns": 2, "text=shadow": 8,
	} {
		var page store.EventPage
		h.ask(t, "GET", "/api/v1/events?limit=1000&"+filters, nil, h.as(access.Viewer)...).into(t, &page)
		if len(page.Events) != want {
			t.Errorf("%s: got %d events, want %d", filters, len(page.Events), want)
		}
		// Who follows live is told the same.
		v, err := url.ParseQuery(filters)
		if err != nil {
			t.Fatal(err)
		}
		q, err := query.Events(v, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		n, match := 0, query.Match(q)
		for i := range all.Events {
			if match(&all.Events[i]) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d events match live, want %d", filters, n, want)
		}
	}
}

func TestFlowsAndSamples(t *testing.T) {
	h := open(t, nil)
	h.sense(t)
	viewer := h.as(access.Viewer)
	var flows struct {
		Flows []store.Flow
		Full  bool
	}
	h.ask(t, "GET", "/api/v1/flows?workload="+shop+"&since=1h", nil, viewer...).into(t, &flows)
	found := false
	for _, f := range flows.Flows {
		if f.Kind == event.KindConnect {
			found = true
			if f.Count != 3 || f.Port != 443 || f.Name != "example.org" || f.Peer.Kind != event.PeerPublic {
				t.Errorf("got %+v", f)
			}
		}
	}
	if !found || flows.Full {
		t.Errorf("got %+v, want the connection among all there are", flows)
	}
	h.ask(t, "GET", "/api/v1/flows?group=another/one/x", nil, viewer...).into(t, &flows)
	if len(flows.Flows) != 0 {
		t.Errorf("another group: got %d flows", len(flows.Flows))
	}
	var samples struct {
		Samples []asset.Sample
	}
	h.ask(t, "GET", "/api/v1/workloads/"+shop+"/samples?since=1h&step=1h", nil, viewer...).into(t, &samples)
	if n := len(samples.Samples); n == 0 || n > 2 || samples.Samples[n-1].CPU != 2*time.Second {
		t.Errorf("got %+v, want the last of each hour", samples.Samples)
	}
	if a := h.ask(t, "GET", "/api/v1/workloads/"+strings.Repeat("c3", 32)+"/samples", nil, viewer...); a.status != http.StatusNotFound {
		t.Errorf("an unknown workload: got %d, want 404", a.status)
	}
	if a := h.ask(t, "GET", "/api/v1/flows?limit=5001", nil, viewer...); a.status != http.StatusUnprocessableEntity {
		t.Errorf("too much asked: got %d, want 422", a.status)
	}
}
