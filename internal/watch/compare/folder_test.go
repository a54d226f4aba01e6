package compare_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/compare"
)

// What one program does to the files of a folder that the profile has nothing of can be
// told together; each name counts where it counts for learning.
func TestFoldersOfWhichMuchLiesOutside(t *testing.T) {
	x := compare.NewIndex(&profile.Profile{Group: "ci", Writes: []profile.File{
		{Path: "/data/build/shop/**"}, {Path: "/data/build/api/obj/main.o"}, {Path: "/data/build/lib*/out/*"}, {Path: "/var/log/ci.log"},
	}})
	for file, want := range map[string]string{
		"/data/build/new/main.o":     "/data/build/new/", // the folder that is told of, and "+" with those below it
		"/data/build/new/obj/a/b.o":  "/data/build/new/obj/a/+",
		"/data/build/api/obj/x.o":    "/data/build/api/obj/",
		"/data/build/api/lib/x/y.o":  "/data/build/api/lib/x/+",
		"/data/build/libc/out/sub/x": "/data/build/libc/out/sub/",
		"/data/build/libc/x":         "/data/build/libc/",
		"/data/build/readme":         "/data/build/",
		"/tmp/build-aB3dE9/x":        "/tmp/build-*/",
		"/tmp/x":                     "/tmp/",
		"/var/lib/ci/jobs/x":         "/var/lib/ci/jobs/+",
		"/etc/passwd":                "",
		"/usr/bin/x":                 "",
		"/root/.ssh/authorized_keys": "",
		"/root/x":                    "",
		"/var/log/journal/x":         "/var/log/journal/",
	} {
		e := write(file)
		v := x.Compare(&e)
		got := ""
		if v.Folder != nil {
			got = v.Folder.Path + "/"
			if v.Folder.Below {
				got += "+"
			}
		}
		if got != want {
			t.Errorf("%s: told of %q, want %q", file, got, want)
		}
	}
	read := write("/data/keys/x.pem")
	read.Kind = event.KindFileRead
	if v := x.Compare(&read); v.Folder != nil {
		t.Errorf("files that are read are told of together: %+v", v.Folder)
	}
}

func TestManyFilesAreOneSentence(t *testing.T) {
	x := compare.NewIndex(&profile.Profile{Group: "ci", Writes: []profile.File{{Path: "/data/build/shop/**"}}})
	var all *profile.Violation
	for _, file := range []string{"/data/build/new/obj/a.o", "/data/build/new/obj/b.o", "/data/build/new/obj/b.o", "/data/build/new/bin/c", "/data/build/new/obj/d.o"} {
		e := write(file)
		e.Process.Executable, e.Reaction = "/usr/bin/as", event.ReactionDenied
		v := x.Compare(&e)
		if v.Gather(); all != nil {
			v.Fold(all)
		}
		all = v
	}
	const want = "as changed many files in /data/build/new and below, such as /data/build/new/obj/a.o, /data/build/new/obj/b.o, /data/build/new/bin/c, which was denied: the profile allows the group to change /data/build/shop/**."
	if all.Sentence != want || all.Count != 5 {
		t.Errorf("got %d times %q\nwant 5 times %q", all.Count, all.Sentence, want)
	}
	permit := &profile.Profile{Group: "ci", Writes: []profile.File{{Path: "/data/build/new/**", Programs: []profile.Pattern{"/usr/bin/as"}, Evidence: profile.Evidence{Source: profile.Person}}}}
	if diff := cmp.Diff(all.Permit, permit); diff != "" {
		t.Errorf("what makes it normal (-got +want):\n%s", diff)
	}
	by := write("/data/build/new/x")
	if v := x.Compare(&by); v.Folder.Print == all.Fingerprint {
		t.Error("what another program does is told together with it")
	}
}

// A builder runs each step from a file with another name: that is told once, and what
// can be done about it is said, because a permit of the name would never serve again.
func TestScriptsWithAnotherNameEachTime(t *testing.T) {
	x := compare.NewIndex(shop())
	one, two := exec("/bin/dash", event.OriginImage, "", "sh", "-xe", "/tmp/jenkins1234567890123456.sh"), exec("/bin/dash", event.OriginImage, "", "sh", "-xe", "/tmp/jenkins6543210987654321.sh")
	v := x.Compare(&one)
	const want = "the container's start ran /tmp/jenkins1234567890123456.sh by /bin/dash: the profile allows dash only /docker-entrypoint.sh; " +
		"its name is another each time, so no permit is for the next: if prod/shop/web is to run what it writes, have that reported alone (castellan watch controls prod/shop/web --set exec=audit)."
	if v.Sentence != want {
		t.Errorf("got %q\nwant %q", v.Sentence, want)
	}
	if w := x.Compare(&two); w.Fingerprint != v.Fingerprint {
		t.Error("each step is a violation of its own")
	}
	other := exec("/bin/dash", event.OriginImage, "", "sh", "/tmp/deploy.sh")
	if w := x.Compare(&other); w.Fingerprint == v.Fingerprint {
		t.Error("a script with a name of its own is told with them")
	}
}
