package console

import (
	"cmp"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Limits of the map: 300 nodes at most, what is beyond is folded into one node
// of its kind.
const (
	maxServices = 220
	maxOuter    = 24 // of each kind of outer node
	edgesListed = 300
)

// nodeKind is what a node of the map stands for.
type nodeKind string

const (
	serviceNode nodeKind = "service"  // the workloads of one service, or one container of plain Docker
	hostNode    nodeKind = "host"     // a host of the fleet
	privateNode nodeKind = "private"  // private addresses that nobody has
	publicNode  nodeKind = "public"   // the internet
	linkNode    nodeKind = "platform" // link-local services
)

// netNode is one node of the map.
type netNode struct {
	Kind    nodeKind
	Name    string
	Sub     string // what stands below the name
	Href    string
	Count   uint64
	Listens []string // ports that it opened for others

	key    string
	folded int // how many it stands for, when they are folded
	column int
	X, Y   float64
}

// netEdge is all connections from one node to another.
type netEdge struct {
	From, To *netNode
	Ports    []string
	Count    uint64
	Failed   uint64
	Error    string
	Last     time.Time
	Href     string

	most           uint64 // count of the flow that Href is of
	path           string
	label          string
	labelX, labelY float64 // 0, 0 where there is no room for one
}

// netMap is who talks with whom.
type netMap struct {
	Nodes    []*netNode
	Edges    []*netEdge
	Width    float64
	Height   float64
	Clusters []string
	Cluster  string
	Window   window
	Full     bool // there are more flows than are read at once
}

func (c *Console) network(w http.ResponseWriter, r *http.Request, v visit) error {
	q := r.URL.Query()
	span := pick(flowWindows(), q.Get("since"))
	flows, err := c.Store.Flows(r.Context(), store.FlowQuery{Since: v.now.Add(-span.Long), Until: v.now})
	if err != nil {
		return err
	}
	hosts, err := c.hostNames(r.Context())
	if err != nil {
		return err
	}
	m := newNetMap(flows, hosts, q.Get("cluster"))
	m.Window, m.Full = span, len(flows) == store.MaxFlows
	return c.show(w, r, http.StatusOK, networkBody(c.page(r, v, "network", "Network"), m))
}

// builder puts a map together.
type builder struct {
	hosts map[string]string
	nodes map[string]*netNode
	edges map[[2]string]*netEdge
}

// newNetMap adds flows up by service and lays them out. Only a cluster's own
// services, and whom they talk with, are in it unless cluster is empty.
func newNetMap(flows []store.Flow, hosts map[string]string, cluster string) netMap {
	b := &builder{hosts: hosts, nodes: map[string]*netNode{}, edges: map[[2]string]*netEdge{}}
	m := netMap{Clusters: clusters(flows), Cluster: cluster}
	if cluster != "" {
		flows = slices.DeleteFunc(slices.Clone(flows), func(f store.Flow) bool {
			return clusterOf(f.Group) != cluster && clusterOf(f.Peer.Group) != cluster
		})
	}
	// Who connected is exact, who was accepted may be a host that translates:
	// accepted ones count only where nobody is known to have connected.
	exact := map[string]bool{}
	for _, f := range flows {
		switch f.Kind {
		case event.KindConnect:
			if e := b.connected(f); e != nil {
				exact[e.To.key+"|"+flowInner(f)] = true
			}
		case event.KindListen:
			me := b.own(f)
			if port := flowPort(f); !slices.Contains(me.Listens, port) {
				me.Listens = append(me.Listens, port)
			}
		}
	}
	for _, f := range flows {
		if f.Kind != event.KindAccept || f.Peer.Kind == event.PeerSelf {
			continue
		}
		me := ownKey(f)
		if from := peerKey(f); b.edges[[2]string{from, me}] != nil ||
			f.Peer.Kind == event.PeerHost && exact[me+"|"+f.Protocol+" "+strconv.Itoa(int(f.Port))] {
			continue
		}
		b.add(b.peer(f), b.own(f), f)
	}
	b.fold()
	m.Nodes = slices.SortedFunc(maps.Values(b.nodes), func(x, y *netNode) int { return strings.Compare(x.key, y.key) })
	m.Edges = slices.SortedFunc(maps.Values(b.edges), func(x, y *netEdge) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), strings.Compare(x.From.key, y.From.key), strings.Compare(x.To.key, y.To.key))
	})
	for _, n := range m.Nodes {
		slices.Sort(n.Listens)
	}
	m.layOut()
	return m
}

// flowInner is the port at which a connection arrives, behind a published one.
func flowInner(f store.Flow) string {
	port := f.Port
	if f.Peer.Port != 0 {
		port = f.Peer.Port
	}
	return f.Protocol + " " + strconv.Itoa(int(port))
}

func (b *builder) connected(f store.Flow) *netEdge {
	if f.Peer.Kind == event.PeerSelf || !f.Address.IsValid() && f.Name == "" && f.Peer.Kind == event.PeerUnknown {
		return nil
	}
	return b.add(b.own(f), b.peer(f), f)
}

func (b *builder) add(from, to *netNode, f store.Flow) *netEdge {
	key := [2]string{from.key, to.key}
	e := b.edges[key]
	if e == nil {
		e = &netEdge{From: from, To: to}
		b.edges[key] = e
	}
	from.Count += f.Count
	if to != from {
		to.Count += f.Count
	}
	e.Count += f.Count
	e.Failed += f.Failed
	if f.Error != "" && !f.Last.Before(e.Last) || e.Error == "" {
		e.Error = f.Error
	}
	if f.Last.After(e.Last) {
		e.Last = f.Last
	}
	if port := flowInner(f); f.Port != 0 && !slices.Contains(e.Ports, port) {
		e.Ports = append(e.Ports, port)
	}
	if f.Count > e.most {
		e.most, e.Href = f.Count, flowEvents(f)
	}
	return e
}

// flowEvents is the address of the events that a flow adds up.
func flowEvents(f store.Flow) string {
	pairs := []string{"kind", "network", "peer", flowPeer(f)}
	switch {
	case f.Group != "":
		pairs = append(pairs, "group", f.Group)
	case f.WorkloadID != "":
		pairs = append(pairs, "workload", f.WorkloadID)
	default:
		pairs = append(pairs, "agent", f.AgentID, "host", "true")
	}
	return eventsOf(pairs...)
}

// ownerOf is the service that a group belongs to: "cluster/service" of
// "cluster/service/container", and all of a shorter one.
func ownerOf(group string) string {
	if strings.Count(group, "/") < 2 {
		return group
	}
	return group[:strings.LastIndexByte(group, '/')]
}

func clusterOf(group string) string {
	name, _, _ := strings.Cut(group, "/")
	return name
}

func clusters(flows []store.Flow) []string {
	seen := map[string]bool{}
	for _, f := range flows {
		for _, g := range []string{f.Group, f.Peer.Group} {
			if g != "" {
				seen[clusterOf(g)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func ownKey(f store.Flow) string {
	switch {
	case f.Group != "":
		return "s/" + ownerOf(f.Group)
	case f.WorkloadID != "":
		return "s/" + asset.ShortID(f.WorkloadID)
	}
	return "h/" + f.AgentID
}

// peerKey names the node of a peer. Whom nobody found out is told by the
// address alone.
func peerKey(f store.Flow) string {
	switch f.Peer.Kind {
	case event.PeerWorkload:
		if f.Peer.Group != "" {
			return "s/" + ownerOf(f.Peer.Group)
		}
		return "s/" + asset.ShortID(f.Peer.WorkloadID)
	case event.PeerHost:
		return "h/" + f.Peer.AgentID
	case event.PeerService:
		return "l/" + serviceName(f.Address)
	}
	name := orElse(f.Name, addressWords(f.Address))
	if f.Peer.Kind == event.PeerPrivate || f.Peer.Kind != event.PeerPublic && f.Address.IsPrivate() {
		return "v/" + name
	}
	return "w/" + name
}

func addressWords(a netip.Addr) string {
	if !a.IsValid() {
		return "unknown"
	}
	return a.String()
}

func (b *builder) own(f store.Flow) *netNode { return b.node(ownKey(f)) }

func (b *builder) peer(f store.Flow) *netNode { return b.node(peerKey(f)) }

// node returns the node of a key, made when it is new.
func (b *builder) node(key string) *netNode {
	if n := b.nodes[key]; n != nil {
		return n
	}
	name := key[2:]
	n := &netNode{key: key, Name: name}
	switch key[0] {
	case 's':
		n.Kind = serviceNode
		owner, last := shortGroup(name)
		n.Name, n.Sub = last, strings.TrimSuffix(owner, "/")
		n.Href = workloadFilter(nil).address("text", name)
	case 'h':
		n.Kind, n.Sub = hostNode, "host"
		n.Name, n.Href = orElse(b.hosts[name], name), "/agents/"+name
	case 'l':
		n.Kind, n.Sub, n.Href = linkNode, "of the platform", eventsOf("kind", "network")
	case 'v':
		n.Kind, n.Sub, n.Href = privateNode, "private, nobody's", eventsOf("kind", "network", "peer", name)
	default:
		n.Kind, n.Sub, n.Href = publicNode, "internet", eventsOf("kind", "network", "peer", name)
	}
	b.nodes[key] = n
	return n
}

// fold puts those with the fewest connections of a kind that has too many into
// one node.
func (b *builder) fold() {
	kinds := map[nodeKind][]*netNode{}
	for _, n := range b.nodes {
		kinds[n.Kind] = append(kinds[n.Kind], n)
	}
	for kind, all := range kinds {
		room := maxOuter
		if kind == serviceNode {
			room = maxServices
		}
		if len(all) <= room {
			continue
		}
		slices.SortFunc(all, func(x, y *netNode) int { return cmp.Or(cmp.Compare(y.Count, x.Count), strings.Compare(x.key, y.key)) })
		rest := &netNode{Kind: kind, key: all[0].key[:2] + "\xff", Href: eventsOf("kind", "network"), folded: len(all) - room + 1}
		rest.Name, rest.Sub = count(rest.folded)+" others", foldedWords(kind)
		b.nodes[rest.key] = rest
		for _, n := range all[room-1:] {
			b.replace(n, rest)
		}
	}
}

func foldedWords(k nodeKind) string {
	switch k {
	case serviceNode:
		return "services"
	case hostNode:
		return "hosts"
	case privateNode:
		return "private addresses"
	case publicNode:
		return "internet addresses"
	}
	return ""
}

// replace lets another node stand for n.
func (b *builder) replace(n, by *netNode) {
	delete(b.nodes, n.key)
	by.Count += n.Count
	for key, e := range b.edges {
		if e.From != n && e.To != n {
			continue
		}
		delete(b.edges, key)
		if e.From == n {
			e.From = by
		}
		if e.To == n {
			e.To = by
		}
		key = [2]string{e.From.key, e.To.key}
		if there := b.edges[key]; there != nil {
			there.merge(e)
			continue
		}
		b.edges[key] = e
	}
}

func (e *netEdge) merge(o *netEdge) {
	e.Count += o.Count
	e.Failed += o.Failed
	e.Error = orElse(e.Error, o.Error)
	if o.Last.After(e.Last) {
		e.Last = o.Last
	}
	for _, port := range o.Ports {
		if !slices.Contains(e.Ports, port) {
			e.Ports = append(e.Ports, port)
		}
	}
	if o.most > e.most {
		e.most, e.Href = o.most, o.Href
	}
}

// ports are those of an edge, as many as are read at a glance.
func (e *netEdge) ports(most int) string {
	list := slices.Sorted(slices.Values(e.Ports))
	if len(list) <= most {
		return untrusted.Text(strings.Join(list, ", "))
	}
	return untrusted.Text(strings.Join(list[:most], ", ")) + " +" + strconv.Itoa(len(list)-most)
}

// title is an edge in words.
func (e *netEdge) title() string {
	s := untrusted.Text(e.From.Name) + " to " + untrusted.Text(e.To.Name) + ", " + plural(e.Count, "connection", "connections")
	if len(e.Ports) > 0 {
		s += " at " + e.ports(8)
	}
	if e.Failed > 0 {
		s += ", " + e.failures()
	}
	return s
}

func (e *netEdge) failures() string {
	s := count(e.Failed) + " failed"
	if e.Error != "" {
		s += ", " + untrusted.Text(e.Error)
	}
	return s
}

func (n *netNode) title() string {
	s := untrusted.Text(strings.TrimPrefix(n.Sub+" ", " ") + n.Name)
	if len(n.Listens) > 0 {
		s += ", listens at " + untrusted.Text(strings.Join(n.Listens[:min(len(n.Listens), 8)], ", "))
	}
	return s
}

// summary is the map in words.
func (m netMap) summary() string {
	return plural(len(m.Nodes), "node", "nodes") + " and " + plural(len(m.Edges), "connection", "connections") + " between them in the last " + m.Window.Says
}

// address is the map with another time or cluster.
func (m netMap) address(since, cluster string) string {
	return newFilter("/network", []string{"cluster", "since"}, nil).address("cluster", cluster, "since", since)
}

// sinceJoint is what stands before the word of a time in an address that may
// name a cluster already.
func sinceJoint(cluster string) string {
	if cluster == "" {
		return "?since="
	}
	return "&since="
}
