package db

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// payloadForm is the first byte of a payload. Within a form fields are only
// added at the end, and a reader stops where the bytes do.
const payloadForm = 1

// wordBreak stands between name and arguments in the words column: a control
// character that ends a word and that terminals don't send.
const wordBreak = "\x1f"

// Bits of the payload's parts and of an exec's facts.
const (
	hasExec = 1 << iota
	hasExit
	hasFile
	hasConnection
	hasDNS
	hasPrivilege
	hasMemory
	hasResource
)

const (
	execArgsTruncated = 1 << iota
	execPathTruncated
	execDeleted
	execSetUID
	execSetGID
)

// appendWords writes the text that can be searched, in the order in which
// decodePayload takes it: name, arguments, then what store.Objects has.
func appendWords(b []byte, e *event.Event) []byte {
	b = append(b, e.Process.Name...)
	if e.Exec != nil {
		for _, a := range e.Exec.Args {
			b = append(append(b, wordBreak...), a...)
		}
	}
	if !hasObjects(e) {
		return b
	}
	for text := range store.Objects(e) {
		if text != "" {
			b = append(append(b, wordBreak...), text...)
		}
	}
	return b
}

// appendPayload writes what has no column of its own. The texts of appendWords
// are not repeated, only their lengths.
func appendPayload(b []byte, e *event.Event) []byte {
	p := &e.Process
	b = append(b, payloadForm)
	for _, v := range [...]uint64{
		uint64(max(e.Version, 0)), e.Seq, uint64(p.ContainerPID), uint64(p.Parent.PID), p.Parent.Start,
		uint64(p.UID), uint64(p.EUID), uint64(p.GID), uint64(len(p.Name)),
	} {
		b = binary.AppendUvarint(b, v)
	}
	b = append(b, flag(e.Exec != nil, hasExec)|flag(e.Exit != nil, hasExit)|flag(e.File != nil, hasFile)|
		flag(e.Connection != nil, hasConnection)|flag(e.DNS != nil, hasDNS)|flag(e.Privilege != nil, hasPrivilege)|
		flag(e.Memory != nil, hasMemory)|flag(e.Resource != nil, hasResource))
	if e.Exec != nil {
		b = appendExec(b, e.Exec)
	}
	if e.Exit != nil {
		b = appendExit(b, e.Exit)
	}
	b = appendObjects(b, e)
	layers, known := layersOf(e)
	held := isHeld(e)
	if e.Count == 0 && e.Last.IsZero() && !known && !held {
		return b
	}
	b = binary.AppendUvarint(b, e.Count)
	b = binary.AppendVarint(b, nanos(e.Last))
	if !known && !held {
		return b
	}
	for _, l := range layers {
		b = binary.AppendUvarint(b, uint64(l.Number))
		b = binary.AppendUvarint(b, uint64(l.Of))
	}
	if held {
		b = appendHeld(b, e)
	}
	return b
}

// isHeld reports whether an event has what belongs to profiles and to holding
// workloads to them.
func isHeld(e *event.Event) bool {
	return e.Reaction != "" || e.Calls != nil || e.Exec != nil && (e.Exec.Digest != "" || isGiven(e.Exec)) || isOfVictim(e.Resource) || isLocal(e.Connection)
}

// isOfVictim reports whether a resource has what a sensor alone says, of a process that
// was killed for want of memory. It was added at the end, behind what an exec was
// given.
func isOfVictim(r *event.Resource) bool { return r != nil && (r.Scope != "" || r.Resident != 0) }

// isLocal reports whether a connection has what is of this side alone: a unix socket, or
// the stream that it took the place of. It was added behind that.
func isLocal(c *event.Connection) bool {
	return c != nil && (c.Path != "" || c.Asked != "" || !c.Listener.IsZero() || c.ListenerName != "" || c.ListenerWorkloadID != "" ||
		c.Outside || c.Stream != "")
}

func appendHeld(b []byte, e *event.Event) []byte {
	digest := ""
	if e.Exec != nil {
		digest = e.Exec.Digest
	}
	b = appendText(appendText(b, string(e.Reaction)), digest)
	c := e.Calls
	switch {
	case c == nil:
		b = append(b, heldNoCalls)
	case c.Capabilities == 0 && !c.CapabilitiesSeen:
		b = appendTexts(append(b, heldCalls), c.Names)
	default:
		b = appendTexts(append(b, heldUses), c.Names)
		b = binary.AppendUvarint(append(b, flag(c.CapabilitiesSeen, 1)), uint64(c.Capabilities))
	}
	local := isLocal(e.Connection)
	if e.Exec != nil && (isGiven(e.Exec) || isOfVictim(e.Resource) || local) {
		b = appendGiven(b, e.Exec)
	}
	if r := e.Resource; isOfVictim(r) || r != nil && local {
		b = binary.AppendUvarint(appendText(b, string(r.Scope)), r.Resident)
	}
	if local {
		b = appendLocal(b, e.Connection)
	}
	return b
}

// What an event has of first calls: with heldUses, capabilities besides.
const (
	heldNoCalls = iota
	heldCalls
	heldUses
)

func (r *payloadReader) held(e *event.Event) {
	e.Reaction = event.Reaction(r.text())
	if digest := r.text(); e.Exec != nil {
		e.Exec.Digest = digest
	}
	switch r.byte() {
	case heldCalls:
		e.Calls = &event.Calls{Names: r.texts()}
	case heldUses:
		e.Calls = &event.Calls{Names: r.texts()}
		e.Calls.CapabilitiesSeen = r.byte() == 1
		e.Calls.Capabilities = event.Capabilities(r.uvarint())
	}
}

// layersOf returns where an event has layers, and whether any of them is known.
func layersOf(e *event.Event) (layers []*event.Layer, known bool) {
	if e.Exec != nil {
		layers = append(layers, &e.Exec.Layer)
	}
	if e.File != nil {
		layers = append(layers, &e.File.Layer)
	}
	if e.Memory != nil {
		layers = append(layers, &e.Memory.Layer)
	}
	for _, l := range layers {
		known = known || !l.IsZero()
	}
	return layers, known
}

func appendExit(b []byte, x *event.Exit) []byte {
	b = binary.AppendVarint(b, int64(x.Code))
	b = binary.AppendVarint(b, int64(x.Signal))
	b = append(b, flag(x.CoreDumped, 1))
	return binary.AppendVarint(b, int64(x.Lifetime))
}

func appendExec(b []byte, x *event.Exec) []byte {
	b = append(b, flag(x.ArgsTruncated, execArgsTruncated)|flag(x.PathTruncated, execPathTruncated)|
		flag(x.Deleted, execDeleted)|flag(x.SetUID, execSetUID)|flag(x.SetGID, execSetGID))
	b = appendText(b, x.Requested)
	b = appendText(b, x.Cwd)
	b = binary.AppendUvarint(b, x.Inode)
	b = binary.AppendUvarint(b, uint64(x.Device))
	b = binary.AppendUvarint(b, uint64(x.Capabilities))
	b = appendCount(b, len(x.Args), x.Args == nil)
	for _, a := range x.Args {
		b = binary.AppendUvarint(b, uint64(len(a)))
	}
	b = appendCount(b, len(x.Ancestors), x.Ancestors == nil)
	for _, a := range x.Ancestors {
		b = binary.AppendUvarint(b, uint64(a.Key.PID))
		b = binary.AppendUvarint(b, a.Key.Start)
		b = appendText(b, a.Name)
		b = appendText(b, a.Executable)
	}
	return b
}

var errPayload = errors.New("the stored form of an event is damaged")

// decodePayload fills in what appendPayload and appendWords wrote. Damaged
// bytes give an error and cost no more memory than their length.
func decodePayload(payload []byte, words string, e *event.Event) error {
	if len(payload) == 0 || payload[0] != payloadForm {
		return errPayload
	}
	r := &payloadReader{b: payload[1:], words: words}
	p := &e.Process
	e.Version = int(r.small())
	e.Seq = r.uvarint()
	p.ContainerPID = r.uint32()
	p.Parent.PID = r.uint32()
	p.Parent.Start = r.uvarint()
	p.UID, p.EUID, p.GID = r.uint32(), r.uint32(), r.uint32()
	p.Name = r.word(r.uvarint())
	parts := r.byte()
	if parts&hasExec != 0 {
		e.Exec = r.exec()
	}
	if parts&hasExit != 0 {
		e.Exit = &event.Exit{Code: int(r.varint()), Signal: int(r.varint()), CoreDumped: r.byte() == 1}
		e.Exit.Lifetime = time.Duration(r.varint())
	}
	r.objects(parts, e)
	if len(r.b) > 0 {
		e.Count, e.Last = r.uvarint(), fromNanos(r.varint())
	}
	if len(r.b) > 0 {
		layers, _ := layersOf(e)
		for _, l := range layers {
			*l = event.Layer{Number: r.uint16(), Of: r.uint16()}
			if l.IsZero() {
				*l = event.Layer{}
			}
		}
	}
	if len(r.b) > 0 {
		r.held(e)
	}
	if len(r.b) > 0 && e.Exec != nil {
		r.given(e.Exec)
	}
	if len(r.b) > 0 && e.Resource != nil {
		e.Resource.Scope, e.Resource.Resident = event.Scope(r.text()), r.uvarint()
	}
	if len(r.b) > 0 && e.Connection != nil {
		r.local(e.Connection)
	}
	if r.bad {
		return errPayload
	}
	return nil
}

func (r *payloadReader) exec() *event.Exec {
	f := r.byte()
	x := &event.Exec{
		ArgsTruncated: f&execArgsTruncated != 0,
		PathTruncated: f&execPathTruncated != 0,
		Deleted:       f&execDeleted != 0,
		SetUID:        f&execSetUID != 0,
		SetGID:        f&execSetGID != 0,
	}
	x.Requested, x.Cwd = r.text(), r.text()
	x.Inode, x.Device = r.uvarint(), r.uint32()
	x.Capabilities = event.Capabilities(r.uvarint())
	if n, ok := r.count(); ok {
		x.Args = make([]string, n)
		for i := range x.Args {
			x.Args[i] = r.nextWord(r.uvarint())
		}
	}
	if n, ok := r.count(); ok {
		x.Ancestors = make([]event.Ancestor, n)
		for i := range x.Ancestors {
			a := &x.Ancestors[i]
			a.Key = event.Key{PID: r.uint32(), Start: r.uvarint()}
			a.Name, a.Executable = r.text(), r.text()
		}
	}
	return x
}
