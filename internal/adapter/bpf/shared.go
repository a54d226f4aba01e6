package bpf

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
)

// DefaultWindow is how long what was told of a container is only counted. A
// minute keeps a busy, unchanging host nearly silent, and what it counts is
// still told soon enough to be looked at.
const DefaultWindow = time.Minute

// maxResidents is how many containers of which the first process is known: as in
// resident.bpf.h.
const maxResidents = 8192

// shared is what all sensors have in common. Sensors.mu guards it.
type shared struct {
	maps     map[string]*ebpf.Map
	calls    switchboard
	packets  packetboard
	cgroups  int // descriptor of the root; -1 until a sensor needs it
	settings asset.AgentSettings
	reader   *ringbuf.Reader
	overlay  overlaySearch
}

// openShared makes the maps that all sensors use, after the spec of one, and
// the reader of the ring buffer.
func openShared(spec *ebpf.CollectionSpec, ringBytes uint32) (*shared, error) {
	// Before 5.11 maps count against RLIMIT_MEMLOCK, 64 KiB by default.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	s := &shared{maps: map[string]*ebpf.Map{}, cgroups: -1}
	for name, m := range map[string]*ebpf.MapSpec{
		eventsMap:    {Name: eventsMap, Type: ebpf.RingBuf, MaxEntries: ringBytes},
		cgroupsMap:   spec.Maps[cgroupsMap],
		untoldMap:    spec.Maps[untoldMap],
		overlaysMap:  {Name: overlaysMap, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(processOverlay{})), MaxEntries: 1},
		residentsMap: {Name: residentsMap, Type: ebpf.LRUHash, KeySize: uint32(unsafe.Sizeof(processCgroupKey{})), ValueSize: uint32(unsafe.Sizeof(processResident{})), MaxEntries: maxResidents},
		hostsMap:     {Name: hostsMap, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(processHost{})), MaxEntries: 1},
		settingsMap:  {Name: settingsMap, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1},
	} {
		made, err := ebpf.NewMap(m)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create map %s: %w", name, err), s.close())
		}
		s.maps[name] = made
	}
	s.calls.cgroups = s.maps[cgroupsMap]
	reader, err := ringbuf.NewReader(s.maps[eventsMap])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the ring buffer: %w", err), s.close())
	}
	s.reader = reader
	return s, nil
}

// window returns how long repeats are only counted; 0: not at all.
func (s *shared) window() time.Duration {
	switch w := s.settings.Window; {
	case w > 0:
		return w
	case w < 0:
		return 0
	}
	return DefaultWindow
}

// set puts settings in force for all sensors.
func (s *shared) set(settings asset.AgentSettings) error {
	s.settings = settings
	if err := s.maps[settingsMap].Put(uint32(0), uint64(s.window())); err != nil {
		return fmt.Errorf("set the window: %w", err)
	}
	return nil
}

func (s *shared) cgroupRoot() (int, error) {
	if s.cgroups >= 0 {
		return s.cgroups, nil
	}
	root, err := openCgroups()
	if err != nil {
		return -1, err
	}
	s.cgroups = root
	return root, nil
}

func (s *shared) close() error {
	var errs []error
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	errs = append(errs, s.calls.close(), s.packets.close())
	for _, m := range s.maps {
		errs = append(errs, m.Close())
	}
	if s.cgroups >= 0 {
		errs = append(errs, unix.Close(s.cgroups))
		s.cgroups = -1
	}
	return errors.Join(errs...)
}
