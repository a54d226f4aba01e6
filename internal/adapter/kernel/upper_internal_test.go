package kernel

import "testing"

func TestUpperOf(t *testing.T) {
	const overlay = "2345 1234 0:60 / / rw,relatime master:500 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/var/lib/docker/overlay2/ab/diff,workdir=/w\n"
	for _, tc := range []struct{ name, mounts, want string }{
		{"an overlay", overlay + "2346 2345 0:63 / /proc rw - proc proc rw\n", "/var/lib/docker/overlay2/ab/diff"},
		{"a blank in it", "1 2 0:6 / / rw - overlay none rw,upperdir=/a\\040b\n", "/a b"},
		{"the last one counts", "1 2 8:1 / / rw - ext4 /dev/sda rw\n" + overlay, "/var/lib/docker/overlay2/ab/diff"},
		{"covered by another", overlay + "1 2 8:1 / / rw - ext4 /dev/sda rw\n", ""},
		{"read only, without one", "1 2 0:6 / / ro - overlay none ro,lowerdir=/a:/b\n", ""},
		{"cut off", "1 2 0:6 / / rw - over", ""},
		{"nothing", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := upperOf(tc.mounts)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("upperOf() = %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}
