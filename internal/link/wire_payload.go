package link

import (
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/proto/linkv1"
)

func fileToWire(f *event.File) *linkv1.File {
	if f == nil {
		return nil
	}
	return &linkv1.File{
		Path: text(f.Path), To: text(f.To), Claimed: f.Claimed, PathTruncated: f.PathTruncated,
		Origin: text(string(f.Origin)), FileSystem: text(f.FileSystem), Inode: f.Inode, Device: f.Device,
		Type: text(f.Type), Mode: f.Mode, Uid: f.UID, Gid: f.GID, Flags: texts(f.Flags),
		Sensitive: text(f.Sensitive), Error: text(f.Error), Layer: layerToWire(f.Layer),
	}
}

func fileFromWire(w *linkv1.File) *event.File {
	if w == nil {
		return nil
	}
	return &event.File{
		Path: w.GetPath(), To: w.GetTo(), Claimed: w.GetClaimed(), PathTruncated: w.GetPathTruncated(),
		Origin: event.Origin(w.GetOrigin()), FileSystem: w.GetFileSystem(), Inode: w.GetInode(), Device: w.GetDevice(),
		Type: w.GetType(), Mode: w.GetMode(), UID: w.Uid, GID: w.Gid, Flags: w.GetFlags(),
		Sensitive: w.GetSensitive(), Error: w.GetError(), Layer: layerFromWire(w.GetLayer()),
	}
}

func layerToWire(l event.Layer) *linkv1.Layer {
	if l.IsZero() {
		return nil
	}
	return &linkv1.Layer{Number: uint32(l.Number), Of: uint32(l.Of)}
}

// layerFromWire returns the zero Layer for what is none.
func layerFromWire(w *linkv1.Layer) event.Layer {
	if w.GetOf() > math.MaxUint16 || w.GetNumber() == 0 || w.GetNumber() > w.GetOf() {
		return event.Layer{}
	}
	return event.Layer{Number: uint16(w.GetNumber()), Of: uint16(w.GetOf())}
}

// connectionToWire leaves Peer out: it is the server's to find out.
func connectionToWire(c *event.Connection) *linkv1.Connection {
	if c == nil {
		return nil
	}
	return &linkv1.Connection{
		Protocol: text(c.Protocol), Local: addressToWire(c.Local), Remote: addressToWire(c.Remote), NetNs: c.NetNS,
		Incoming: c.Incoming, Error: text(c.Error), Resumed: c.Resumed,
		BytesSent: c.BytesSent, BytesReceived: c.BytesReceived,
		PacketsSent: c.PacketsSent, PacketsReceived: c.PacketsReceived,
		DurationNs: int64(c.Duration), Name: text(c.Name),
		Path: text(c.Path), Asked: text(c.Asked), Listener: keyToWire(c.Listener), ListenerName: text(c.ListenerName),
		ListenerWorkloadId: text(c.ListenerWorkloadID), Outside: c.Outside, Stream: text(c.Stream),
	}
}

func connectionFromWire(w *linkv1.Connection) *event.Connection {
	if w == nil {
		return nil
	}
	return &event.Connection{
		Protocol: w.GetProtocol(), Local: addressFromWire(w.GetLocal()), Remote: addressFromWire(w.GetRemote()), NetNS: w.GetNetNs(),
		Incoming: w.GetIncoming(), Error: w.GetError(), Resumed: w.GetResumed(),
		BytesSent: w.GetBytesSent(), BytesReceived: w.GetBytesReceived(),
		PacketsSent: w.GetPacketsSent(), PacketsReceived: w.GetPacketsReceived(),
		Duration: time.Duration(w.GetDurationNs()), Name: w.GetName(),
		Path: w.GetPath(), Asked: w.GetAsked(), Listener: keyFromWire(w.GetListener()), ListenerName: w.GetListenerName(),
		ListenerWorkloadID: w.GetListenerWorkloadId(), Outside: w.GetOutside(), Stream: w.GetStream(),
	}
}

func dnsToWire(d *event.DNS) *linkv1.Dns {
	if d == nil {
		return nil
	}
	return &linkv1.Dns{
		Protocol: text(d.Protocol), Server: addressToWire(d.Server), Client: addressToWire(d.Client),
		Id: uint32(d.ID), Name: text(d.Name), Type: text(d.Type), Code: text(d.Code),
		Answers: texts(d.Answers), Truncated: d.Truncated, Size: uint32(d.Size),
	}
}

func dnsFromWire(w *linkv1.Dns) *event.DNS {
	if w == nil {
		return nil
	}
	return &event.DNS{
		Protocol: w.GetProtocol(), Server: addressFromWire(w.GetServer()), Client: addressFromWire(w.GetClient()),
		ID: uint16(w.GetId()), Name: w.GetName(), Type: w.GetType(), Code: w.GetCode(),
		Answers: w.GetAnswers(), Truncated: w.GetTruncated(), Size: int(w.GetSize()),
	}
}

func privilegeToWire(p *event.Privilege) *linkv1.Privilege {
	if p == nil {
		return nil
	}
	return &linkv1.Privilege{
		Call: text(p.Call), Source: text(p.Source), Target: text(p.Target), Type: text(p.Type), Flags: texts(p.Flags),
		Process: keyToWire(p.Process), WorkloadId: text(p.WorkloadID), Gained: uint64(p.Gained),
		OldUid: p.OldUID, NewUid: p.NewUID, Device: p.Device, Error: text(p.Error),
	}
}

func privilegeFromWire(w *linkv1.Privilege) *event.Privilege {
	if w == nil {
		return nil
	}
	return &event.Privilege{
		Call: w.GetCall(), Source: w.GetSource(), Target: w.GetTarget(), Type: w.GetType(), Flags: w.GetFlags(),
		Process: keyFromWire(w.GetProcess()), WorkloadID: w.GetWorkloadId(), Gained: event.Capabilities(w.GetGained()),
		OldUID: w.GetOldUid(), NewUID: w.GetNewUid(), Device: w.GetDevice(), Error: w.GetError(),
	}
}

func memoryToWire(m *event.Memory) *linkv1.Memory {
	if m == nil {
		return nil
	}
	return &linkv1.Memory{
		Call: text(m.Call), Path: text(m.Path), Origin: text(string(m.Origin)),
		Protection: texts(m.Protection), Length: m.Length, Error: text(m.Error), Layer: layerToWire(m.Layer),
	}
}

func memoryFromWire(w *linkv1.Memory) *event.Memory {
	if w == nil {
		return nil
	}
	return &event.Memory{
		Call: w.GetCall(), Path: w.GetPath(), Origin: event.Origin(w.GetOrigin()),
		Protection: w.GetProtection(), Length: w.GetLength(), Error: w.GetError(), Layer: layerFromWire(w.GetLayer()),
	}
}

func resourceToWire(r *event.Resource) *linkv1.Resource {
	if r == nil {
		return nil
	}
	return &linkv1.Resource{What: text(r.What), Used: r.Used, Limit: r.Limit, Scope: text(string(r.Scope)), Resident: r.Resident}
}

func resourceFromWire(w *linkv1.Resource) *event.Resource {
	if w == nil {
		return nil
	}
	return &event.Resource{What: w.GetWhat(), Used: w.GetUsed(), Limit: w.GetLimit(), Scope: event.Scope(w.GetScope()), Resident: w.GetResident()}
}

// addressToWire returns nil for no address; a port alone says nothing.
func addressToWire(a netip.AddrPort) *linkv1.Address {
	if !a.Addr().IsValid() {
		return nil
	}
	return &linkv1.Address{Ip: a.Addr().AsSlice(), Port: uint32(a.Port()), Zone: text(a.Addr().Zone())}
}

// addressFromWire returns the zero AddrPort for what is none, so that every
// address that is let in can be written as text and read again.
func addressFromWire(w *linkv1.Address) netip.AddrPort {
	addr, ok := netip.AddrFromSlice(w.GetIp())
	if !ok || w.GetPort() > maxPort {
		return netip.AddrPort{}
	}
	if zone := w.GetZone(); addr.Is6() && !addr.Is4In6() && isZone(zone) {
		addr = addr.WithZone(zone)
	}
	return netip.AddrPortFrom(addr, uint16(w.GetPort()))
}

const (
	maxPort = 1<<16 - 1
	// maxZone is the kernel's IFNAMSIZ without its NUL: a zone is the name of a
	// network interface, or its number.
	maxZone = 15
)

// isZone takes the names that interfaces have in practice; brackets, colons and
// slashes would make the text of an address ambiguous.
func isZone(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@"
	return s != "" && len(s) <= maxZone && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(letters, r) })
}
