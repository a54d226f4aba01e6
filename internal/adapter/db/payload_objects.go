package db

import (
	"encoding/binary"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// Bits of what a payload's parts say by yes or no.
const (
	fileClaimed = 1 << iota
	filePathTruncated
	fileUID
	fileGID
)

const (
	connectionIncoming = 1 << iota
	connectionResumed
)

// appendObjects writes the parts that say what an event was about. Of what
// store.Objects has, only the lengths.
func appendObjects(b []byte, e *event.Event) []byte {
	if e.File != nil {
		b = appendFile(b, e.File)
	}
	if e.Connection != nil {
		b = appendConnection(b, e.Connection)
	}
	if e.DNS != nil {
		b = appendDNS(b, e.DNS)
	}
	if e.Privilege != nil {
		b = appendPrivilege(b, e.Privilege)
	}
	if m := e.Memory; m != nil {
		b = appendText(b, m.Call)
		b = appendLength(b, m.Path)
		b = appendText(b, string(m.Origin))
		b = appendTexts(b, m.Protection)
		b = binary.AppendUvarint(b, m.Length)
		b = appendText(b, m.Error)
	}
	if r := e.Resource; r != nil {
		b = appendText(b, r.What)
		b = binary.AppendUvarint(b, r.Used)
		b = binary.AppendUvarint(b, r.Limit)
	}
	return b
}

// objects reads them in the same order, which is that of store.Objects too.
func (r *payloadReader) objects(parts byte, e *event.Event) {
	if parts&hasFile != 0 {
		e.File = r.file()
	}
	if parts&hasConnection != 0 {
		e.Connection = r.connection()
	}
	if parts&hasDNS != 0 {
		e.DNS = r.dns()
	}
	if parts&hasPrivilege != 0 {
		e.Privilege = r.privilege()
	}
	if parts&hasMemory != 0 {
		m := &event.Memory{Call: r.text(), Path: r.nextText(), Origin: event.Origin(r.text())}
		m.Protection, m.Length, m.Error = r.texts(), r.uvarint(), r.text()
		e.Memory = m
	}
	if parts&hasResource != 0 {
		e.Resource = &event.Resource{What: r.text(), Used: r.uvarint(), Limit: r.uvarint()}
	}
}

func appendFile(b []byte, f *event.File) []byte {
	b = append(b, flag(f.Claimed, fileClaimed)|flag(f.PathTruncated, filePathTruncated)|
		flag(f.UID != nil, fileUID)|flag(f.GID != nil, fileGID))
	b = appendLength(b, f.Path)
	b = appendLength(b, f.To)
	b = appendText(b, string(f.Origin))
	b = appendText(b, f.FileSystem)
	b = binary.AppendUvarint(b, f.Inode)
	b = binary.AppendUvarint(b, uint64(f.Device))
	b = appendText(b, f.Type)
	b = binary.AppendUvarint(b, uint64(f.Mode))
	for _, id := range [...]*uint32{f.UID, f.GID} {
		if id != nil {
			b = binary.AppendUvarint(b, uint64(*id))
		}
	}
	b = appendTexts(b, f.Flags)
	b = appendText(b, f.Sensitive)
	return appendText(b, f.Error)
}

func (r *payloadReader) file() *event.File {
	facts := r.byte()
	f := &event.File{
		Claimed: facts&fileClaimed != 0, PathTruncated: facts&filePathTruncated != 0,
		Path: r.nextText(), To: r.nextText(), Origin: event.Origin(r.text()), FileSystem: r.text(),
	}
	f.Inode, f.Device, f.Type, f.Mode = r.uvarint(), r.uint32(), r.text(), r.uint32()
	if facts&fileUID != 0 {
		id := r.uint32()
		f.UID = &id
	}
	if facts&fileGID != 0 {
		id := r.uint32()
		f.GID = &id
	}
	f.Flags, f.Sensitive, f.Error = r.texts(), r.text(), r.text()
	return f
}

func appendConnection(b []byte, c *event.Connection) []byte {
	b = append(b, flag(c.Incoming, connectionIncoming)|flag(c.Resumed, connectionResumed))
	b = appendText(b, c.Protocol)
	b = appendAddrPort(b, c.Local)
	b = appendAddrPort(b, c.Remote)
	b = binary.AppendUvarint(b, uint64(c.NetNS))
	b = appendText(b, c.Error)
	for _, n := range [...]uint64{c.BytesSent, c.BytesReceived, c.PacketsSent, c.PacketsReceived} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, int64(c.Duration))
	b = appendLength(b, c.Name)
	b = appendText(b, string(c.Peer.Kind))
	b = appendLength(b, c.Peer.WorkloadID)
	b = appendLength(b, c.Peer.Group)
	b = appendText(b, c.Peer.AgentID)
	return binary.AppendUvarint(b, uint64(c.Peer.Port))
}

func (r *payloadReader) connection() *event.Connection {
	facts := r.byte()
	c := &event.Connection{
		Incoming: facts&connectionIncoming != 0, Resumed: facts&connectionResumed != 0,
		Protocol: r.text(), Local: r.addrPort(), Remote: r.addrPort(), NetNS: r.uint32(), Error: r.text(),
	}
	for _, n := range [...]*uint64{&c.BytesSent, &c.BytesReceived, &c.PacketsSent, &c.PacketsReceived} {
		*n = r.uvarint()
	}
	c.Duration, c.Name = time.Duration(r.varint()), r.nextText()
	c.Peer.Kind = event.PeerKind(r.text())
	c.Peer.WorkloadID, c.Peer.Group = r.nextText(), r.nextText()
	c.Peer.AgentID, c.Peer.Port = r.text(), r.uint16()
	// The remote address is among the words too, to be searched, and taken here
	// so that what follows finds its own.
	if text := store.AddressText(c.Remote); text != "" {
		r.nextWord(uint64(len(text)))
	}
	return c
}

// appendLocal writes what is at the very end: the path's text is the last of
// store.Objects, too.
func appendLocal(b []byte, c *event.Connection) []byte {
	b = append(b, flag(c.Outside, 1))
	b = appendLength(b, c.Path)
	b = appendText(b, c.Asked)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(c.Listener.PID)), c.Listener.Start)
	return appendText(appendText(appendText(b, c.ListenerName), c.ListenerWorkloadID), c.Stream)
}

func (r *payloadReader) local(c *event.Connection) {
	c.Outside = r.byte() == 1
	c.Path, c.Asked = r.nextText(), r.text()
	c.Listener = event.Key{PID: r.uint32(), Start: r.uvarint()}
	c.ListenerName, c.ListenerWorkloadID, c.Stream = r.text(), r.text(), r.text()
}

func appendDNS(b []byte, d *event.DNS) []byte {
	b = append(b, flag(d.Truncated, 1))
	b = appendText(b, d.Protocol)
	b = appendAddrPort(b, d.Server)
	b = appendAddrPort(b, d.Client)
	b = binary.AppendUvarint(b, uint64(d.ID))
	b = appendLength(b, d.Name)
	b = appendText(b, d.Type)
	b = appendText(b, d.Code)
	b = appendTexts(b, d.Answers)
	return binary.AppendVarint(b, int64(d.Size))
}

func (r *payloadReader) dns() *event.DNS {
	d := &event.DNS{Truncated: r.byte() == 1, Protocol: r.text(), Server: r.addrPort(), Client: r.addrPort()}
	d.ID, d.Name, d.Type, d.Code = r.uint16(), r.nextText(), r.text(), r.text()
	d.Answers, d.Size = r.texts(), int(r.varint())
	return d
}

func appendPrivilege(b []byte, p *event.Privilege) []byte {
	b = appendText(b, p.Call)
	b = appendText(b, p.Source)
	b = appendLength(b, p.Target)
	b = appendText(b, p.Type)
	b = appendTexts(b, p.Flags)
	for _, n := range [...]uint64{
		uint64(p.Process.PID), p.Process.Start, uint64(p.Gained), uint64(p.OldUID), uint64(p.NewUID), uint64(p.Device),
	} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendText(b, p.WorkloadID)
	return appendText(b, p.Error)
}

func (r *payloadReader) privilege() *event.Privilege {
	p := &event.Privilege{Call: r.text(), Source: r.text(), Target: r.nextText(), Type: r.text(), Flags: r.texts()}
	p.Process = event.Key{PID: r.uint32(), Start: r.uvarint()}
	p.Gained = event.Capabilities(r.uvarint())
	p.OldUID, p.NewUID, p.Device = r.uint32(), r.uint32(), r.uint32()
	p.WorkloadID, p.Error = r.text(), r.text()
	return p
}
