package docker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// message is one event of the engine, as far as it concerns a container.
type message struct {
	id     string
	action events.Action
	at     time.Time // by the engine's clock
	// told is false for an event that only touches the container (a network
	// joined or left) and says nothing of it.
	told     bool
	name     string
	image    string
	ecs      asset.ECS
	exitCode *int
}

// follow reads events until the stream ends, hands those that concern a
// container to put, and calls miss for what cannot be read: then something
// happened that nobody knows. It returns why the stream ended, never nil.
func follow(r io.Reader, put func(message), miss func(error)) error {
	const chunk = 64 << 10
	br := bufio.NewReaderSize(r, chunk)
	for {
		line, err := readLine(br)
		switch {
		case fault.Is(err, fault.Exhausted):
			miss(err)
			continue
		case errors.Is(err, io.EOF):
			return fault.New(fault.Unavailable, "the engine ended its events").
				With("is dockerd still running? it is asked again until it answers")
		case err != nil:
			return fault.New(fault.Unavailable, "read engine events: %w", err)
		}
		m, ok, err := parseEvent(line)
		if err != nil {
			miss(err)
		}
		if ok {
			put(m)
		}
	}
}

// readLine returns the next line of at most maxEventLine bytes; a longer one is
// passed over and gives an error of kind Exhausted.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	size := 0
	for {
		part, err := br.ReadSlice('\n')
		size += len(part)
		if size <= maxEventLine {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, err
		case size > maxEventLine:
			return nil, fault.New(fault.Exhausted, "an event of %d bytes, at most %d are read", size, maxEventLine)
		}
		return line, nil
	}
}

// parseEvent reads one line. ok is false for an event that concerns no
// container, or not in a way that matters.
func parseEvent(line []byte) (m message, ok bool, err error) {
	// Engines that prefer JSON text sequences put a record separator before.
	line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte{0x1e}))
	if len(line) == 0 {
		return message{}, false, nil
	}
	var e events.Message
	if err := json.Unmarshal(line, &e); err != nil {
		return message{}, false, fmt.Errorf("parse engine event: %w", err)
	}
	m = message{id: e.Actor.ID, action: e.Action, at: time.Unix(0, e.TimeNano).UTC()}
	if e.TimeNano == 0 {
		m.at = time.Unix(e.Time, 0).UTC()
	}
	switch e.Type {
	case events.ContainerEventType:
		if !matters(e.Action) {
			return message{}, false, nil
		}
		m.fill(e.Actor.Attributes)
	case events.NetworkEventType:
		if e.Action != events.ActionConnect && e.Action != events.ActionDisconnect {
			return message{}, false, nil
		}
		m.id = e.Actor.Attributes["container"]
	default:
		return message{}, false, nil
	}
	if !asset.IsContainerID(m.id) {
		return message{}, false, errors.New("parse engine event: no container id in it")
	}
	return m, true, nil
}

// matters reports whether an event changes what is known of a container. Those
// of execs and health checks are many and don't.
func matters(a events.Action) bool {
	switch a {
	case events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionDestroy,
		events.ActionPause, events.ActionUnPause, events.ActionRename, events.ActionUpdate,
		events.ActionOOM, events.ActionKill:
		return true
	}
	return false
}

// attributeExit holds the exit code in the event of an end.
const attributeExit = "exitCode"

// fill reads the attributes of a container's event: name and image, and labels.
// A label of the name of another attribute covers it (seen with 20.10), which
// makes the exit code the word of whoever made the container; see entry.
func (m *message) fill(attributes map[string]string) {
	m.told = true
	m.name = clean(strings.TrimPrefix(attributes["name"], "/"), maxText)
	m.image = clean(attributes["image"], maxText)
	m.ecs = identity(attributes)
	if code, err := strconv.Atoi(attributes[attributeExit]); err == nil {
		m.exitCode = &code
	}
}

// spoofs reports whether labels cover the exit code in the events of their
// container.
func spoofs(labels map[string]string) bool {
	_, ok := labels[attributeExit]
	return ok
}
