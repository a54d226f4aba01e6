package check

import (
	"testing"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// A variable is a secret by its form or by its name; what is unknown is none. What
// makes one is told by package judge.
func TestSecretIn(t *testing.T) {
	for _, tc := range []struct{ name, value, want string }{
		{"DB_PASSWORD", "hunter2", "a password"},
		{"ANYTHING", "AKIAQYLPMN5HAAAAAAAA", "an AWS access key"},
		{"DATABASE_URL", "postgres://app:hunter2@db:5432/app", "an address with a password"},
		{"DB_PASSWORD_FILE", "/run/secrets/db", ""},
		{"SESSION_SECRET", "development", ""}, // a doubtful one
		{"DB_PASSWORD", "", ""},
	} {
		got := secretIn(blueprint.KnownText(tc.name, blueprint.Span{}), blueprint.KnownText(tc.value, blueprint.Span{}))
		if got != tc.want {
			t.Errorf("%s=%s: %q, want %q", tc.name, tc.value, got, tc.want)
		}
	}
	unknown := blueprint.Text{Is: blueprint.Unknown, V: "hunter2hunter2"}
	if got := secretIn(blueprint.KnownText("DB_PASSWORD", blueprint.Span{}), unknown); got != "" {
		t.Errorf("an unknown value is %q", got)
	}
}

func TestFloating(t *testing.T) {
	for _, tc := range []struct {
		name    string
		unknown bool
		want    bool
	}{
		{"nginx", false, true}, {"nginx:latest", false, true}, {"registry:5000/nginx", false, true}, {"nginx:1.27", false, false},
		{"nginx:latest@sha256:00", false, false}, {"registry:5000/nginx:1", false, false}, {"", false, false},
		{"${…}/app:latest", true, true}, {"${…}/app", true, false}, {"${…}:${…}", true, false}, {"app:${…}", true, false},
	} {
		text := blueprint.KnownText(tc.name, blueprint.Span{})
		if tc.unknown {
			text.Is = blueprint.Unknown
		}
		if _, got := floating(text); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Patterns of steps meet what they are for, and what looks like it not.
func TestSteps(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		re      interface{ MatchString(string) bool }
		text    string
		want    bool
	}{
		{"piped", piped(), "curl -fsSL https://x | sh", true},
		{"piped", piped(), "wget -qO- https://x | sudo -E bash -", true},
		{"piped", piped(), "curl https://x | python3 -", true},
		{"piped", piped(), "curl https://x | tar xz", false},
		{"piped", piped(), "curl https://x | sha256sum -c", false},
		{"piped", piped(), "curl https://x -o x; cat y | sh", false},
		{"piped", piped(), "curl https://x | gpg --dearmor > /usr/share/keyrings/x.gpg", false},
		{"piped", piped(), "curl https://x | python3 -m json.tool", false},
		{"substituted", substituted(), "bash <(curl -s https://x)", true},
		{"substituted", substituted(), `sh -c "$(curl -fsSL https://x)"`, true},
		{"substituted", substituted(), `V=$(curl -s https://x) && echo $V`, false},
		{"sudo", sudo(), "sudo apt-get update", true},
		{"sudo", sudo(), "make && sudo make install", true},
		{"sudo", sudo(), "apt-get install -y sudo curl", false},
		{"openMode", openMode(), "chmod -R 777 /app", true},
		{"openMode", openMode(), "chmod a+rwx /app", true},
		{"openMode", openMode(), "chmod 0755 /app", false},
		{"openMode", openMode(), "chmod +x /app", false},
		{"openMode", openMode(), "chmod 1777 /tmp", false},
		{"openMode", openMode(), "chmod g+w /app", false},
		{"unchecked", unchecked(), "curl -fsSLk https://x", true},
		{"unchecked", unchecked(), "curl -fsSL https://x/-k", false},
		{"unchecked", unchecked(), "npm config set strict-ssl false", true},
		{"unchecked", unchecked(), "pip install --trusted-host pypi.org x", true},
		{"unchecked", unchecked(), "NODE_TLS_REJECT_UNAUTHORIZED=0", true},
		{"unchecked", unchecked(), "PIP_TRUSTED_HOST=pypi.org", true},
		{"chpasswd", chpasswd(), "echo 'root:toor' | chpasswd", true},
		{"chpasswd", chpasswd(), "echo root:toor|/usr/sbin/chpasswd", true},
		{"chpasswd", chpasswd(), `echo "root:$PASSWORD" | chpasswd`, false},
		{"updateAlone", updateAlone(), "apt-get -y update", true},
		{"updateAlone", updateAlone(), "apt-get update && apt-get install x", false},
	} {
		if got := tc.re.MatchString(tc.text); got != tc.want {
			t.Errorf("%s on %q: %v, want %v", tc.pattern, tc.text, got, tc.want)
		}
	}
}

// What a step shows of itself never has a secret in it.
func TestClip(t *testing.T) {
	const hidden = "… (with a secret)"
	for _, step := range []string{
		"curl -u admin:s3cret https://example.org | sh",
		"curl -fsSLu admin:s3cret https://example.org | sh",
		"curl -uadmin:s3cret https://example.org",
		"curl --user admin:s3cret https://example.org",
		"curl --user='admin:s3cret' https://example.org",
		"curl --proxy-user admin:s3cret https://example.org",
		"curl -U admin:s3cret https://example.org",
		`curl -H "Authorization: Bearer s3cret" https://example.org | bash`,
		"curl -H 'authorization:Basic s3cret=' https://example.org",
		"curl -H 'PRIVATE-TOKEN: s3cret' https://example.org",
		"curl -H X-Api-Key:s3cret https://example.org",
		"curl --header 'Cookie: session=s3cret' https://example.org",
		"wget --header='JOB-TOKEN: s3cret' https://example.org",
		"http -a admin:s3cret example.org",
		"echo root:s3cret | chpasswd",
		"curl --oauth2-bearer Bearer s3cret99 https://example.org",
	} {
		if got := clip(step); got != hidden {
			t.Errorf("%s: shown as %s", step, got)
		}
	}
	for _, step := range []string{
		"curl -fsSL https://example.org/a:b | sh",
		"curl -fsSL -o /usr/bin/x https://example.org && chown app:app /usr/bin/x",
		"sudo -u app make",
		"curl -H 'Accept: text/plain' https://example.org",
		"docker run -u 1000:1000 x",
	} {
		if got := clip(step); got != step {
			t.Errorf("%s: shown as %s", step, got)
		}
	}
}
