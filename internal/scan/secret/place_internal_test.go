package secret

import "testing"

func TestDoubtOfAPlace(t *testing.T) {
	for path, want := range map[string]string{
		"lib/a.rb": "", "lib/config.py": "", "lib/x86_64-linux-gnu/a.conf": doubtShipped, "lib/systemd/system/a.service": doubtShipped, "usr/lib/a.py": doubtShipped,
		"src/latest.yaml": "", "src/attest.go": "", "contest.py": "", "LATEST.env": "", "manifest.json": "", "src/Latest.java": "", "inspec.rb": "",
		"src/test.py": doubtTest, "src/FooTest.java": doubtTest, "src/foo_test.go": doubtTest, "foo-tests.js": doubtTest, "foo.spec.ts": doubtTest, "test_foo.py": doubtTest,
		"FooTests.cs": doubtTest, "TEST.env": doubtTest, "foo_spec.rb": doubtTest, "app/tests/a.py": doubtTest, "foo.test.js": doubtTest,
		"a/testfiles/Dockerfile": doubtTest, "a/testonly/keys.go": doubtTest, "a/e2eutil/a.go": doubtTest, "a/servicemocks/mock.go": doubtTest, "a/x509_test_import.go": doubtTest, "a/testcert.go": doubtTest,
		"a/fuzz/jar.go": doubtTest, "attestation/a.env": "", "testament/a.env": "", "contests/a.env": "", "latest/a.env": "", "app/testimonials/a.env": "",
	} {
		if got := doubtOf(&found{value: "x"}, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// A reason is shown only if it tells nothing of any value that was found.
func TestReasonTellsNothing(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	const one, two = "Tr0ub4dor&3xK9", "q8Zr4Lw2Vn7Xc1Bm5Ty9Kd3"
	for line, want := range map[string]string{
		"DB_PASSWORD='" + one + "' # castellan:allow known weak":                              "known weak",
		"DB_PASSWORD='" + one + "' # castellan:allow not ub4dor":                              "",
		"DB_PASSWORD='" + one + "' API_TOKEN='" + two + "' # castellan:allow like " + two:     "",
		"DB_PASSWORD='" + one + "' API_TOKEN='" + two + "' # castellan:allow like " + two[:9]: "",
		"DB_PASSWORD='" + one + "' # castellan:allow the 3x of it until 2030-01-31":           "the 3x of it",
	} {
		found, err := e.FindText(File{Path: "a.sh"}, []byte(line))
		if len(found) == 0 || err != nil {
			t.Errorf("%s: nothing found, %v", line, err)
		}
		for _, f := range found {
			if f.Allowed == nil || f.Allowed.Reason != want {
				t.Errorf("%s: %+v, want reason %q", line, f.Allowed, want)
			}
		}
	}
}
