package link

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// boundedCodec is Connect's codec for protobuf with the limits of this link.
//
// Reading, it counts before it allocates: two bytes on the wire can become a
// hundred in memory, so a report within MaxMessage could otherwise take
// gigabytes. Writing, it sizes a message once and refuses one that no server
// would take.
type boundedCodec struct{}

// Name is connect.Codec.
func (boundedCodec) Name() string { return "proto" }

// Marshal is connect.Codec.
func (c boundedCodec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

// MarshalAppend lets Connect reuse its buffers.
func (boundedCodec) MarshalAppend(b []byte, m any) ([]byte, error) {
	msg, ok := m.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("write %T: no protobuf message", m)
	}
	if n := proto.Size(msg); n > MaxMessage {
		return nil, fault.New(fault.Invalid, "report has %d bytes; at most %d are taken", n, MaxMessage)
	}
	// The size of every message inside was noted by proto.Size just now.
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, msg)
}

// Unmarshal is connect.Codec.
func (boundedCodec) Unmarshal(b []byte, m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("read %T: no protobuf message", m)
	}
	switch m.(type) {
	case *linkv1.ReportRequest:
		if err := checkCounts(b); err != nil {
			return err
		}
	case *linkv1.InventoryRequest:
		if len(b) > maxInventoryMessage {
			return fault.New(fault.Invalid, "answer to a scan has %d bytes; at most %d are taken", len(b), maxInventoryMessage)
		}
	}
	return proto.Unmarshal(b, msg)
}

// maxParts bounds the fields of all events, processes, samples and uses of one
// report, those of the payloads included: a snapshot of MaxProcesses with
// twenty arguments each fits, and it takes some hundred megabytes at worst.
const maxParts = 4 << 20

// Numbers of proto/linkv1's fields that checkCounts knows.
const (
	reportAgent     = 1
	reportWorkloads = 2
	reportEvents    = 3
	reportProcesses = 4
	reportSamples   = 8
	reportUses      = 10
	reportThreats   = 11
	usePaths        = 2
	// eventPayloads is the first field of an event that is a message; all that
	// follow are messages or numbers.
	eventPayloads = 6
)

// checkCounts holds the limits of a report on its bytes. What is no protobuf is
// the parser's to say.
func checkCounts(b []byte) error {
	var count [reportThreats + 1]int
	var n amounts
	parts := 0
	eachField(b, func(num protowire.Number, value []byte) bool {
		switch num {
		case reportEvents, reportProcesses, reportSamples:
			count[num]++
			parts += countParts(value, num == reportEvents)
		case reportUses:
			count[num]++
			paths := 0
			eachField(value, func(num protowire.Number, _ []byte) bool {
				parts++
				if num == usePaths {
					paths++
				}
				return paths <= asset.MaxUsePaths
			})
			n.use(paths)
		case reportAgent, reportWorkloads, reportThreats:
			count[num]++
		}
		return parts <= maxParts
	})
	if parts > maxParts {
		return fault.New(fault.Invalid, "report has more than %d parts", maxParts)
	}
	n.events, n.workloads, n.processes = count[reportEvents], count[reportWorkloads], count[reportProcesses]
	n.samples, n.uses, n.threats = count[reportSamples], count[reportUses], count[reportThreats]
	return n.check()
}

// countParts counts the fields of an event, a process or a sample and, for an
// event, those of its payloads. Text is not looked into: a hostile argument may
// look like anything.
func countParts(b []byte, isEvent bool) (parts int) {
	eachField(b, func(num protowire.Number, value []byte) bool {
		parts++
		if isEvent && num >= eventPayloads && value != nil {
			eachField(value, func(protowire.Number, []byte) bool { parts++; return true })
		}
		return true
	})
	return parts
}

// eachField calls f with each field of a message until f returns false or
// something is no protobuf. value is nil for numbers.
func eachField(b []byte, f func(num protowire.Number, value []byte) bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return
		}
		var value []byte
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(b)
		}
		if !f(num, value) {
			return
		}
		b = b[n:]
	}
}
