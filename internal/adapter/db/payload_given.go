package db

import (
	"encoding/binary"
	"net/netip"

	"github.com/castellan-security/castellan/internal/event"
)

// Bits of what an exec was given: the lists that follow.
const (
	givenEnvironment = 1 << iota
	givenEnvironmentTruncated
	givenStdio
)

// isGiven reports whether an exec has variables or descriptors.
func isGiven(x *event.Exec) bool {
	return len(x.Environment) > 0 || x.EnvironmentTruncated || len(x.Stdio) > 0
}

// streamCodes are what kinds of stream are stored as: numbers are never changed. A
// kind that is not among them follows in words.
var streamCodes = []event.StreamKind{
	event.StreamUnknown, event.StreamNone, event.StreamFile, event.StreamFolder, event.StreamPipe, event.StreamTerminal,
	event.StreamNull, event.StreamDevice, event.StreamTCP, event.StreamUDP, event.StreamUnix, event.StreamSocket, event.StreamOther,
}

func streamCode(k event.StreamKind) byte {
	for i, known := range streamCodes {
		if k == known {
			return byte(i)
		}
	}
	return streamInWords
}

// Bits beside the code of a stream.
const (
	streamCodeMask  = 0x1f
	streamInWords   = 0x1f
	streamHasInode  = 0x20
	streamHasRemote = 0x40
)

func appendGiven(b []byte, x *event.Exec) []byte {
	b = append(b, flag(len(x.Environment) > 0, givenEnvironment)|flag(x.EnvironmentTruncated, givenEnvironmentTruncated)|
		flag(len(x.Stdio) > 0, givenStdio))
	if len(x.Environment) > 0 {
		b = appendTexts(b, x.Environment)
	}
	if len(x.Stdio) == 0 {
		return b
	}
	b = appendCount(b, len(x.Stdio), false)
	for _, s := range x.Stdio {
		remote, code := s.Remote.IsValid(), streamCode(s.Kind)
		b = append(b, code|flag(s.Inode != 0, streamHasInode)|flag(remote, streamHasRemote))
		if code == streamInWords {
			b = appendText(b, string(s.Kind))
		}
		if s.Inode != 0 {
			b = binary.AppendUvarint(b, s.Inode)
		}
		if remote {
			b = appendText(b, s.Remote.String())
		}
	}
	return b
}

func (r *payloadReader) given(x *event.Exec) {
	has := r.byte()
	x.EnvironmentTruncated = has&givenEnvironmentTruncated != 0
	if has&givenEnvironment != 0 {
		x.Environment = r.texts()
	}
	if has&givenStdio == 0 {
		return
	}
	n, ok := r.count()
	if !ok || n > event.Streams {
		r.fail()
		return
	}
	x.Stdio = make([]event.Stream, n)
	for i := range x.Stdio {
		s, code := &x.Stdio[i], r.byte()
		switch at := int(code & streamCodeMask); {
		case at < len(streamCodes):
			s.Kind = streamCodes[at]
		case at == streamInWords:
			s.Kind = event.StreamKind(r.text())
		}
		if code&streamHasInode != 0 {
			s.Inode = r.uvarint()
		}
		if code&streamHasRemote != 0 {
			// One that can't be read is none: it was written by String.
			s.Remote, _ = netip.ParseAddrPort(r.text())
		}
	}
}
