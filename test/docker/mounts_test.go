package docker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// ruling is a server that holds one group to rules for programs alone.
type ruling struct{ exec profile.ExecRules }

func (s ruling) Behaviour(_ context.Context, a link.BehaviourAsk) (b link.BehaviourBrief, err error) {
	if len(a.Held) > 0 && a.Held[0].Stamp == "1" {
		return b, nil
	}
	return heldTo(s.exec)
}

// commands gives a shell those of busybox by their own names.
const commands = `for c in mount cp mkdir unshare pivot_root chroot mv ln; do eval "$c() { /bin/busybox $c \"\$@\"; }"; done; ` +
	`echo begins; mkdir -p /tmp/e /mnt; cp /bin/busybox /tmp/e/echo; `

// mountTricks have a program that was brought in run by a name of the image, or of none,
// with all the rights to mount that a container can have. Where the shell itself is
// killed for it, the rest is not done.
var mountTricks = map[string]string{
	"a folder over programs":        `mount -t tmpfs t /mnt; cp /bin/busybox /mnt/busybox; mount -o bind /mnt /bin; /bin/busybox echo it ran`,
	"a file over the program":       `mount -o bind /tmp/e/echo /bin/busybox; /bin/busybox echo it ran`,
	"an overlay over programs":      `mount -t tmpfs t /mnt; mkdir /mnt/u /mnt/w; cp /bin/busybox /mnt/u/busybox; mount -t overlay o -o lowerdir=/bin,upperdir=/mnt/u,workdir=/mnt/w /bin; /bin/busybox echo it ran`,
	"a read-only overlay":           `mkdir /tmp/low; cp /bin/busybox /tmp/low/; mount -t overlay o -o lowerdir=/tmp/low:/bin /bin; /bin/busybox echo it ran`,
	"another root":                  `mount -t tmpfs t /mnt; mkdir -p /mnt/bin /mnt/old; cp /bin/busybox /mnt/bin/; cd /mnt; pivot_root . old; /bin/busybox echo it ran`,
	"another root for one":          `mount -t tmpfs t /mnt; mkdir /mnt/bin; cp /bin/busybox /mnt/bin/; chroot /mnt /bin/busybox echo it ran`,
	"another root of written files": `mkdir -p /tmp/r/bin; cp /bin/busybox /tmp/r/bin/; chroot /tmp/r /bin/busybox echo it ran`,
	"a root that is moved":          `mount -t tmpfs t /mnt; mkdir /mnt/bin; cp /bin/busybox /mnt/bin/; cd /mnt; mount -o move . /; chroot . /bin/busybox echo it ran`,
	"mounts of its own":             `unshare -m /bin/busybox sh -c 'BB=/bin/busybox; $BB mount -t tmpfs t /mnt; $BB cp $BB /mnt/busybox; $BB mount -o bind /mnt /bin; $BB echo it ran'`,
	"a user of its own":             `unshare -U -r -m /bin/busybox sh -c 'BB=/bin/busybox; $BB mount -t tmpfs t /mnt; $BB cp $BB /mnt/busybox; $BB mount -o bind /mnt /bin; $BB echo it ran'`,
	"shared memory":                 `mount -o remount,exec /dev/shm; cp /bin/busybox /dev/shm/echo; /dev/shm/echo it ran`,
	"by the root of a process":      `/proc/self/root/tmp/e/echo it ran`,
	"by the root of the first":      `/proc/1/root/tmp/e/echo it ran`,
	"by the working folder":         `cd /tmp/e; /proc/self/cwd/echo it ran`,
	"by an open file":               `exec 3< /tmp/e/echo; /proc/self/fd/3`,
	"another name":                  `mkdir /tmp/l; ln /bin/busybox /tmp/l/echo; /tmp/l/echo it ran`,
	"the program, moved":            `mkdir /tmp/l; mv /bin/busybox /tmp/l/echo; /tmp/l/echo it ran`,
	"the program, made anew":        `mv /tmp/e/echo /bin/busybox; /bin/busybox echo it ran`,
	"the root, mounted once more":   `mkdir /mnt/r; mount -o bind / /mnt/r; /mnt/r/tmp/e/echo it ran`,
}

// TestMountsBringNothingNew tries to have what was brought into a container run by
// mounts and other roots, in containers that may do all that.
func TestMountsBringNothingNew(t *testing.T) {
	keeper, _ := holding(t, ruling{exec: profile.ExecRules{Paths: []profile.Pattern{"/bin/busybox"}}})
	e, _ := guardedAs(t, engine.Options{}, starting(t, keeper))
	for name, do := range mountTricks {
		t.Run(name, func(t *testing.T) {
			id := run(t, e, engine.Container{Name: strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", ""), Labels: labels("held"), Cmd: []string{"/bin/busybox", "sleep", "3600"},
				Change: func(_ *container.Config, h *container.HostConfig) {
					h.CapAdd, h.SecurityOpt = []string{"ALL"}, []string{"seccomp=unconfined", "apparmor=unconfined"}
					h.CapDrop = []string{"SYS_RESOURCE"}
				}})
			defer func() {
				if err := e.Remove(t.Context(), id); err != nil {
					t.Error(err)
				}
			}()
			out, code, err := e.Exec(t.Context(), id, "/bin/busybox", "sh", "-c", commands+do)
			if err != nil || !strings.Contains(out, "begins") {
				t.Fatalf("the shell did not begin: %v, %s", err, out)
			}
			if strings.Contains(out, "it ran") || strings.Contains(out, "applet not found") {
				t.Errorf("it ran: %s", out)
			}
			if !strings.Contains(out, "Killed") && code != 128+9 {
				t.Errorf("nothing was killed: code %d, %s", code, out)
			}
		})
	}
}
