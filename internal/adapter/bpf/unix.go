package bpf

import (
	"bytes"
	"unsafe"

	"github.com/castellan-security/castellan/internal/event"
)

const localConnectionLen = int(unsafe.Sizeof(networkLocalConnection{}))

// decodeUnix reads what is told of a unix socket that was connected to, or refused.
func decodeUnix(d *decoder, b []byte, e *event.Event) error {
	if len(b) < localConnectionLen {
		return errShort
	}
	h, err := d.head(b, e)
	if err != nil {
		return err
	}
	var at networkLocalConnection
	c := &event.Connection{
		Protocol: "unix",
		Path:     socketName(d, b[unsafe.Offsetof(at.Path):][:len(at.Path)], u16(b, unsafe.Offsetof(at.PathLen))),
		Asked:    socketName(d, b[unsafe.Offsetof(at.Asked):][:len(at.Asked)], u16(b, unsafe.Offsetof(at.AskedLen))),
		Error:    errorName(u32(b, unsafe.Offsetof(at.Error))),
		Outside:  h.flags&uint32(networkUnixFlagFLAG_OUTSIDE) != 0,
		Listener: event.Key{PID: u32(b, unsafe.Offsetof(at.ListenerTgid)), Start: u64(b, unsafe.Offsetof(at.ListenerStart))},
	}
	if c.Path == "" { // it refused: what was asked for is all there is
		c.Path = c.Asked
	}
	if c.Asked == c.Path {
		c.Asked = ""
	}
	if !c.Listener.IsZero() {
		c.ListenerName = d.comm(b[unsafe.Offsetof(at.ListenerComm):][:len(at.ListenerComm)])
	}
	if h.flags&uint32(networkUnixFlagFLAG_LISTENER) != 0 {
		c.ListenerWorkloadID = d.workload(b[unsafe.Offsetof(at.ListenerContainer):][:len(at.ListenerContainer)])
	}
	e.Kind, e.Connection = event.KindUnix, c
	return nil
}

// socketName writes the name of a unix socket as unix(7) and ss do: that of an
// abstract one, whose zeros count, with an @ for each of them.
func socketName(d *decoder, name []byte, n uint16) string {
	name = name[:min(int(n), len(name))]
	if len(name) > 0 && name[0] == 0 {
		return d.texts.valid(bytes.ReplaceAll(name, []byte{0}, []byte{'@'}))
	}
	return d.texts.valid(untilNUL(name))
}
