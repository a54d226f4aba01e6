package db_test

import (
	"fmt"
	"net/netip"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// newMixed makes a fleet whose processes also touch files and talk.
func newMixed(seed uint64) *fleet {
	f := newFleet(seed)
	f.mixed = true
	return f
}

// objects are what one process does between its exec and its exit.
func (f *fleet) objects(base event.Event) []event.Event {
	of := func(kind event.Kind) event.Event {
		e := base
		e.Kind = kind
		return e
	}
	write := of(event.KindFileWrite)
	write.File = &event.File{Path: f.path(), Flags: []string{"write", "create"}, Origin: event.OriginWritten, Mode: 0o644}
	if f.rnd.IntN(8) == 0 {
		write.Kind, write.File.To = event.KindFileRename, f.path()
	}
	connect := of(event.KindConnect)
	connect.Connection = f.connection()
	end := of(event.KindClose)
	c := *connect.Connection
	c.BytesSent, c.BytesReceived, c.Error = f.rnd.Uint64N(1e6), f.rnd.Uint64N(1e6), ""
	end.Connection = &c
	made := []event.Event{write, connect, end}
	if c.Name != "" {
		query := of(event.KindQuery)
		query.DNS = &event.DNS{Protocol: "udp", Name: c.Name, Type: "A"}
		made = append(made, query)
	}
	switch f.rnd.IntN(100) {
	case 0:
		mount := of(event.KindMount)
		mount.Privilege = &event.Privilege{Call: "mount", Source: "overlay", Target: "/mnt/data"}
		made = append(made, mount)
	case 1:
		mapped := of(event.KindExecMap)
		mapped.Memory = &event.Memory{Call: "mmap", Path: f.path(), Protection: []string{"read", "execute"}}
		made = append(made, mapped)
	case 2:
		module := of(event.KindModule)
		module.Privilege = &event.Privilege{Call: "init_module", Target: "overlay"}
		made = append(made, module)
	}
	return made
}

// path is a new one every other time.
func (f *fleet) path() string {
	if f.rnd.IntN(2) == 0 {
		return fmt.Sprintf("/var/lib/app/cache/%016x.tmp", f.rnd.Uint64())
	}
	if f.rnd.IntN(2_000) == 0 {
		return "/etc/shadow"
	}
	return fmt.Sprintf("/srv/app/data/file-%d.json", int(200*f.rnd.Float64()*f.rnd.Float64()))
}

func (f *fleet) connection() *event.Connection {
	n := int(300 * f.rnd.Float64() * f.rnd.Float64())
	c := &event.Connection{
		Protocol: "tcp", Local: netip.MustParseAddrPort("172.17.0.2:40000"),
		Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(n / 250), byte(n % 250)}), uint16(440+n%5)),
	}
	switch n % 3 {
	case 0:
		c.Name = fmt.Sprintf("service-%d.internal.example", n)
	case 1:
		c.Peer = event.Peer{Kind: event.PeerWorkload, WorkloadID: workloadID(n%fleetAgents, 1), Group: groupName(n%fleetAgents, 1)}
	}
	if n == 299 {
		c.Remote = netip.MustParseAddrPort("[2001:db8::77]:443")
	}
	if n%10 == 0 {
		c.Error = "ECONNREFUSED"
	}
	return c
}

// objectQueries are what the console asks of files and peers.
func objectQueries() []namedQuery {
	return []namedQuery{
		{"path common", store.EventQuery{Path: "/srv/app/data/file-1.json"}},
		{"path rare", store.EventQuery{Path: "/etc/shadow"}},
		{"path unknown", store.EventQuery{Path: "/etc/none"}},
		{"path beginning", store.EventQuery{Path: "/srv/app/data/file-19*"}},
		{"path beginning many", store.EventQuery{Path: "/var/lib/app/*"}},
		{"path beginning rare", store.EventQuery{Path: "/etc/*"}},
		{"path beginning of all", store.EventQuery{Path: "/*"}},
		{"path and kind", store.EventQuery{Path: "/srv/*", Kinds: []event.Kind{event.KindFileRename}}},
		{"path and workload", store.EventQuery{Path: "/etc/shadow", WorkloadID: workloadID(3, 0)}},
		{"path and text", store.EventQuery{Path: "/srv/*", Text: "file-7"}},
		{"peer address", store.EventQuery{Peer: "10.9.0.3"}},
		{"peer address and port", store.EventQuery{Peer: "10.9.0.3:443"}},
		{"peer address rare", store.EventQuery{Peer: "2001:db8::77"}},
		{"peer address unknown", store.EventQuery{Peer: "192.0.2.200"}},
		{"peer name", store.EventQuery{Peer: "service-6.internal.example"}},
		{"peer workload", store.EventQuery{Peer: workloadID(4, 1)}},
		{"peer group", store.EventQuery{Peer: groupName(4, 1)}},
		{"peer and path", store.EventQuery{Peer: "10.9.0.3", Path: "/etc/shadow"}},
		{"peer and agent", store.EventQuery{Peer: "10.9.0.3", AgentID: "agent-07"}},
		{"text of path", store.EventQuery{Text: "shadow"}},
		{"text of file", store.EventQuery{Text: "cache/00"}},
		{"text of name", store.EventQuery{Text: "service-9.internal"}},
		{"text of address", store.EventQuery{Text: "10.9.1.4"}},
	}
}
