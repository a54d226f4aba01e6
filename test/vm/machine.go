package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/need"
)

// Limits of one boot. Emulated processors are slow, and the machine that
// emulates may have other work.
const (
	memoryMiB = 1024
	// silence is how long the guest may say nothing before it counts as hung: an
	// emulated one on a busy machine loads the sensors for longer than a minute.
	silence = 4 * time.Minute
	// lineLimit bounds one line of the console.
	lineLimit = 1 << 20
)

// Boot starts a machine with an initial RAM file system, passes args to its
// /init, and reads its console until the machine stops. It is stopped when ctx
// ends or when it is silent for too long. An error says that the guest did not
// come to its end; what it had told until then is in the console all the same.
func Boot(ctx context.Context, m need.Machine, initramfs string, args ...string) (*Console, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, m.QEMU, arguments(m, initramfs, args)...)
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("read console: %w", err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", m.QEMU, err)
	}
	console := &Console{}
	readErr := read(output, console, cancel)
	waitErr := cmd.Wait()
	switch {
	case console.Panic:
		return console, errors.New("the guest's kernel panicked")
	case console.End != "":
		return console, nil
	case ctx.Err() != nil:
		return console, fmt.Errorf("stop machine: %w", context.Cause(ctx))
	}
	return console, fmt.Errorf("the machine stopped before the guest's end: %w", errors.Join(
		readErr, waitErr, errors.New("qemu said: "+strings.TrimSpace(complaints.String()))))
}

// arguments never ask for KVM: nested, it hangs on some hosts.
func arguments(m need.Machine, initramfs string, args []string) []string {
	console, kind := "ttyS0", []string{"-cpu", "max"}
	if m.Arch == "arm64" {
		console, kind = "ttyAMA0", []string{"-machine", "virt", "-cpu", "cortex-a72"}
	}
	line := "console=" + console + " quiet panic=-1"
	if len(args) > 0 {
		line += " -- " + strings.Join(args, " ")
	}
	return append(kind,
		"-accel", "tcg", "-m", fmt.Sprint(memoryMiB), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", m.Kernel, "-initrd", initramfs, "-append", line)
}

// read feeds the console until the output ends, and stops the machine when it
// is silent for too long.
func read(output io.Reader, c *Console, stop context.CancelCauseFunc) error {
	watch := time.AfterFunc(silence, func() {
		stop(fmt.Errorf("the guest said nothing for %v", silence))
	})
	defer watch.Stop()
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, lineLimit)
	for lines.Scan() {
		watch.Reset(silence)
		c.Line(lines.Text())
	}
	if err := lines.Err(); err != nil {
		stop(fmt.Errorf("read console: %w", err))
		return err
	}
	return nil
}
