package bpf

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

// stoppedClock shows the epoch at boot.
func stoppedClock() *Clock {
	return NewClock(func() (time.Duration, time.Duration) { return 0, 0 })
}

func putHeader(kind processKind, flags processFlag) []byte {
	var at processHeader
	b := make([]byte, headerLen)
	b[unsafe.Offsetof(at.Sensor)] = processSensor().number
	b[unsafe.Offsetof(at.Kind)] = byte(kind)
	le := binary.LittleEndian
	le.PutUint32(b[unsafe.Offsetof(at.Flags):], uint32(flags)|flagContainer)
	le.PutUint64(b[unsafe.Offsetof(at.Time):], 5_000)
	le.PutUint64(b[unsafe.Offsetof(at.Start):], 4_000)
	le.PutUint64(b[unsafe.Offsetof(at.ParentStart):], 3_000)
	le.PutUint32(b[unsafe.Offsetof(at.Tgid):], 42)
	le.PutUint32(b[unsafe.Offsetof(at.ParentTgid):], 41)
	le.PutUint32(b[unsafe.Offsetof(at.InnermostTgid):], 7)
	copy(b[unsafe.Offsetof(at.Comm):], "to\xffol")
	for i := range containerID {
		b[int(unsafe.Offsetof(at.Container))+i] = 0xab
	}
	return b
}

// putExec builds the record of an exec with one ancestor.
func putExec(flags processFlag, executable, cwd, requested, args string) []byte {
	var at processExec
	b := append(putHeader(processKindKIND_EXEC, flags), make([]byte, execLen-headerLen)...)
	b[unsafe.Offsetof(at.Origin)] = byte(processOriginORIGIN_WRITTEN)
	b[unsafe.Offsetof(at.Ancestors)] = 1
	le := binary.LittleEndian
	le.PutUint64(b[unsafe.Offsetof(at.Inode):], 99)
	le.PutUint16(b[unsafe.Offsetof(at.ExecutableLen):], uint16(len(executable)))
	le.PutUint16(b[unsafe.Offsetof(at.CwdLen):], uint16(len(cwd)))
	le.PutUint16(b[unsafe.Offsetof(at.RequestedLen):], uint16(len(requested)))
	le.PutUint16(b[unsafe.Offsetof(at.ArgsLen):], uint16(len(args)))
	ancestor := make([]byte, ancestorLen)
	le.PutUint32(ancestor[unsafe.Offsetof(processAncestor{}.Tgid):], 41)
	copy(ancestor[unsafe.Offsetof(processAncestor{}.Comm):], "sixteen bytes ok")
	b = append(b, ancestor...)
	return append(b, executable+cwd+requested+args...)
}

func TestDecodeExec(t *testing.T) {
	b := putExec(processFlagFLAG_ENTERED, "tool\x00bin\x00", "", "./tool\x00", "tool\x00\x00a b\x00")
	b[unsafe.Offsetof(processExec{}.Origin)] = byte(processOriginORIGIN_IMAGE)
	binary.LittleEndian.PutUint16(b[unsafe.Offsetof(processExec{}.Layer):], 3)
	binary.LittleEndian.PutUint16(b[unsafe.Offsetof(processExec{}.Layers):], 500)
	var got event.Event
	if err := decodeProcess(newDecoder(stoppedClock()), b, &got); err != nil {
		t.Fatal(err)
	}
	want := event.Event{
		Kind: event.KindExec, Time: time.Unix(0, 5_000).UTC(), WorkloadID: strings.Repeat("ab", containerID),
		Process: event.Process{
			Key: event.Key{PID: 42, Start: 4_000}, ContainerPID: 7, Parent: event.Key{PID: 41, Start: 3_000},
			Name: "to\uFFFDol", Executable: "/bin/tool",
		},
		Exec: &event.Exec{
			Requested: "./tool", Args: []string{"tool", "", "a b"}, Cwd: "/", Origin: event.OriginImage,
			Layer: event.Layer{Number: 3, Of: 500}, Inode: 99, Entered: true, Ancestors: []event.Ancestor{{Key: event.Key{PID: 41}, Name: "sixteen bytes ok"}},
		},
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("event (-got +want):\n%s", d)
	}
}

func TestDecodeRequested(t *testing.T) {
	tests := []struct {
		name, asked, want string
	}{
		{"the file itself", "/bin/tool", ""},
		{"with more slashes", "//bin//tool", ""},
		{"relative", "tool", ""},
		{"relative, upwards", "../bin/tool", ""},
		{"a script", "/opt/script", "/opt/script"},
		{"a relative script", "script", "script"},
		{"a hidden file", "/bin/.tool", "/bin/.tool"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e event.Event
			b := putExec(0, "tool\x00bin\x00", "bin\x00", tt.asked+"\x00", "")
			if err := decodeProcess(newDecoder(stoppedClock()), b, &e); err != nil {
				t.Fatal(err)
			}
			if e.Exec.Requested != tt.want {
				t.Errorf("requested %q, want %q", e.Exec.Requested, tt.want)
			}
		})
	}
}

// Only the path that is cut loses its slash.
func TestDecodeCutPaths(t *testing.T) {
	tests := []struct {
		name            string
		flags           processFlag
		executable, cwd string
	}{
		{"none", 0, "/bin/tool", "/srv/app"},
		{"executable", processFlagFLAG_EXECUTABLE_CUT, "bin/tool", "/srv/app"},
		{"working directory", processFlagFLAG_CWD_CUT, "/bin/tool", "srv/app"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e event.Event
			b := putExec(tt.flags, "tool\x00bin\x00", "app\x00srv\x00", "", "")
			if err := decodeProcess(newDecoder(stoppedClock()), b, &e); err != nil {
				t.Fatal(err)
			}
			if e.Process.Executable != tt.executable || e.Exec.Cwd != tt.cwd || e.Exec.PathTruncated != (tt.flags != 0) {
				t.Errorf("%q in %q, cut %v, want %q in %q", e.Process.Executable, e.Exec.Cwd, e.Exec.PathTruncated, tt.executable, tt.cwd)
			}
		})
	}
}

func TestDecodeManyArguments(t *testing.T) {
	var e event.Event
	b := putExec(0, "tool\x00", "", "", strings.Repeat("\x00", 8_000))
	if err := decodeProcess(newDecoder(stoppedClock()), b, &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Exec.Args) != maxArgs || !e.Exec.ArgsTruncated {
		t.Errorf("%d arguments, cut %v, want %d, true", len(e.Exec.Args), e.Exec.ArgsTruncated, maxArgs)
	}
}

// Whatever part of a record is missing, it is an error and no panic.
func TestDecodeShort(t *testing.T) {
	exit := append(putHeader(processKindKIND_EXIT, 0), make([]byte, exitLen-headerLen)...)
	for _, whole := range [][]byte{putExec(0, "tool\x00", "bin\x00", "x\x00", "arg\x00"), exit, putRepeat(77)} {
		for n := range whole {
			var e event.Event
			if err := decodeProcess(newDecoder(stoppedClock()), whole[:n], &e); !errors.Is(err, errShort) {
				t.Fatalf("%d of %d bytes: %v, want %v", n, len(whole), err, errShort)
			}
		}
	}
}

// putRepeat builds what is sent of a process whose exec is like one told as id.
func putRepeat(id uint64) []byte {
	b := append(putHeader(processKindKIND_REPEAT, 0), make([]byte, repeatLen-headerLen)...)
	binary.LittleEndian.PutUint64(b[unsafe.Offsetof(processBeginning{}.Id):], id)
	return b
}

// toldWindow returns a window in which one exec was told, as 77.
func toldWindow(t testing.TB) *window {
	t.Helper()
	w := &window{told: map[uint64]*told{}, bound: 1}
	var e event.Event
	b := putExec(0, "tool\x00bin\x00", "", "", "tool\x00a b\x00")
	binary.LittleEndian.PutUint32(b[unsafe.Offsetof(processHeader{}.Tgid):], 12)
	if err := decodeProcess(newDecoder(stoppedClock()), b, &e); err != nil {
		t.Fatal(err)
	}
	e.Time = time.Unix(1, 0)
	w.remember(77, 1, &e)
	return w
}

func TestDecodeRepeat(t *testing.T) {
	d := newDecoder(stoppedClock())
	d.window = toldWindow(t)
	want := d.window.find(77).event()
	want.Time = time.Unix(0, 5_000).UTC()
	want.Process.Key = event.Key{PID: 42, Start: 4_000}

	var got event.Event
	if err := decodeProcess(d, putRepeat(77), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("event (-got +want):\n%s", d)
	}
	if got := d.window.find(77).process.Key.PID; got != 12 {
		t.Errorf("what is remembered is of %d now, want 12", got)
	}
	// What it is like was lost: then it is told as a process that there is.
	got = event.Event{}
	if err := decodeProcess(d, putRepeat(78), &got); err != nil || got.Kind != event.KindFork || got.Process.Key != want.Process.Key || d.window.lost != 1 {
		t.Errorf("a repeat of nothing: %v, %d lost, %+v", err, d.window.lost, got)
	}
}

// putRunning builds the record of a process that runs.
func putRunning(executable string) []byte {
	var at runningRunning
	b := append(putHeader(0, 0), make([]byte, runningLen-headerLen)...)
	b[unsafe.Offsetof(at.Origin)] = byte(processOriginORIGIN_IMAGE)
	binary.LittleEndian.PutUint16(b[unsafe.Offsetof(at.ExecutableLen):], uint16(len(executable)))
	return append(b, executable...)
}

func TestDecodeRunning(t *testing.T) {
	b := append(putRunning("tool\x00bin\x00"), putRunning("")...)
	want := event.Running{
		WorkloadID: strings.Repeat("ab", containerID), Origin: event.OriginImage, Started: time.Unix(0, 4_000).UTC(),
		Process: event.Process{
			Key: event.Key{PID: 42, Start: 4_000}, ContainerPID: 7, Parent: event.Key{PID: 41, Start: 3_000},
			Name: "to\uFFFDol", Executable: "/bin/tool",
		},
	}
	d := newDecoder(stoppedClock())
	var got event.Running
	rest, err := decodeRunning(d, b, &got)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("process (-got +want):\n%s", d)
	}
	if rest, err = decodeRunning(d, rest, &got); err != nil || len(rest) != 0 || got.Process.Executable != "" {
		t.Errorf("second: %+v, %d bytes left, %v", got.Process, len(rest), err)
	}
}

func TestTextsAreBounded(t *testing.T) {
	known := texts{}
	for i := range 3 * maxTexts {
		known.valid(binary.LittleEndian.AppendUint32(nil, uint32(i)))
	}
	known.valid(make([]byte, maxTextLen+1))
	if len(known) > maxTexts {
		t.Errorf("%d texts are kept, want at most %d", len(known), maxTexts)
	}
}

func FuzzDecodeProcess(f *testing.F) {
	known := toldWindow(f)
	f.Add(putRepeat(77))
	f.Add(putRepeat(0))
	f.Add(putHeader(processKindKIND_FORK, 0))
	f.Add(append(putHeader(processKindKIND_EXIT, 0), make([]byte, exitLen-headerLen)...))
	f.Add(putExec(0, "tool\x00bin\x00", "", "./tool\x00", "tool\x00\x00a b\x00"))
	f.Add(putExec(processFlagFLAG_EXECUTABLE_CUT, "\x00\x00", "\xff", "", "no end"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e event.Event
		d := newDecoder(stoppedClock())
		d.window = known
		if err := decodeProcess(d, b, &e); err != nil {
			return
		}
		all := []string{e.Process.Name, e.Process.Executable, e.WorkloadID}
		if e.Exec != nil {
			all = append(append(all, e.Exec.Args...), e.Exec.Cwd, e.Exec.Requested)
			if len(e.Exec.Args) > maxArgs || len(e.Exec.Ancestors) > event.MaxAncestors {
				t.Errorf("%d arguments, %d ancestors", len(e.Exec.Args), len(e.Exec.Ancestors))
			}
		}
		for _, s := range all {
			if !utf8.ValidString(s) {
				t.Errorf("%q is no UTF-8", s)
			}
		}
	})
}

func FuzzDecodeRunning(f *testing.F) {
	f.Add(putRunning("tool\x00bin\x00"))
	f.Add(append(putRunning("\xff"), putRunning("")...))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDecoder(stoppedClock())
		for len(b) > 0 {
			var r event.Running
			rest, err := decodeRunning(d, b, &r)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatalf("%d bytes are left of %d", len(rest), len(b))
			}
			for _, s := range []string{r.Process.Name, r.Process.Executable, r.WorkloadID} {
				if !utf8.ValidString(s) {
					t.Errorf("%q is no UTF-8", s)
				}
			}
			b = rest
		}
	})
}

func BenchmarkDecodeExec(b *testing.B) {
	d := newDecoder(stoppedClock())
	record := putExec(0, "tool\x00bin\x00usr\x00", "app\x00srv\x00", "/usr/bin/tool\x00", "tool\x00--flag\x00value\x00")
	b.ReportAllocs()
	for b.Loop() {
		var e event.Event
		if err := decodeProcess(d, record, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeFork(b *testing.B) {
	d := newDecoder(stoppedClock())
	record := putHeader(processKindKIND_FORK, 0)
	b.ReportAllocs()
	for b.Loop() {
		var e event.Event
		if err := decodeProcess(d, record, &e); err != nil {
			b.Fatal(err)
		}
	}
}
