package secret_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// TestClean wants nothing of medium severity or more of what projects have that looks
// like a secret and is none, one cause a row; § is a value that is drawn.
func TestClean(t *testing.T) {
	e := engine(t)
	for _, tc := range []struct{ name, path, text string }{
		{"translation", "app/i18n/gn.json", `{"yourpassword": "Ñe'ẽñemi1", "newpassword": "<strong>$2</strong>"}`},
		{"translation by its signs", "src/texts.json", `{"password-reset": "密碼提醒", "oldpass": "無效嘅臨時或現有嘅密碼1"}`},
		{"example in a docstring", "mod.py", "def f():\n    \"\"\"Connects.\n\n    password: '§'\n    \"\"\"\n"},
		{"documentation of a module", "mod.py", "EXAMPLES = '''\n- f:\n    api_key: §\n    password: \"§\"\n'''\n"},
		{"example in a comment of a function", "a.js", "/**\n * Returns:\n *   \"access_token\": \"§\"\n */\n"},
		{"names in a list", "a.json.js", `{"required":["UpdateToken","TLSInspectionConfigurationResponse2"]}`},
		{"names in a list of Python", "a.py", `ignored = ['v3AuthPass', 'v3PrivPass', 'hostname']`},
		{"what stands between two texts", "a.php", `$c = "user='" . $u . "' password='".addcslashes($F,"'\\")."'";`},
		{"what a function is called with", "a.php", `$r = $g->result("SELECT PASSWORD(".q($Z1).")");`},
		{"minified program", "a.cjs", `e==null&&(e="Input new password: "),E=n.limitMessage;!S;)n.limit1=h,C="";`},
		{"name of an attribute", "map.php", `'userPassword' => 'urn:oid:2.5.4.35',`},
		{"sum of a file", "a.rb", "  $ puppet backup /etc/passwd\n  /etc/passwd: 429b225650b912a2ee067b0a4cf1e949\n"},
		{"hash of a password", "a.rb", `user.hashed_password = "d033e22ae348aeb5660fc2140aec35850c4da997"`},
		{"hash as MySQL has it", "a.yml", `password: '*EE0D72C1085C46C5278932678FBE2C6A782821B4'`},
		{"stand-in", "a.php", `protected static $dummyPassword = '_web_form_5847ed1b5b8ca';`},
		{"word with signs for letters", "a.ts", `firstPassword: 'pa$$word', second_password: 'p4ssw0rd1x'`},
		{"name with a number", "a.js", `"Must be like dotenv://:key_1234@dotenv.internal/vault"`},
		{"word in base64", "a.yml", "data:\n  password: cGFzc3dvcmQK\n  admin-password: amhpcHN0ZXI=\n"},
		{"path of a value", "p.json", `{"input_token": "Marker", "output_token": "Jobs[-1].JobId"}`},
		{"member of a package", "a.go", "x25519KEMGeneratePrivateKey = subtle.GeneratePrivateKeyX25519\n"},
		{"whom nginx asks", "nginx.conf", "location / {\n  uwsgi_pass mailman3;\n  proxy_pass backend1a;\n}\n"},
		{"id of a method", "a.yml", "authenticationMethod: 92faba60-8c01-11e6-996c-525400b48521\n"},
		{"digits in order", "eap", "#\tpac_opaque_key = \"0123456789abcdef0123456789ABCDEF\"\n"},
		{"template of a test", "src/register.spec.tsx.ejs", "password: '§',\n"},
		{"source in a map", "a.js", "//# sourceMappingURL=data:application/json;base64,eyJzb3VyY2VzQ29udGVudCI6WyJjb25zdCBkYlBhc3N3b3JkID0gJ1pmUUozOVJjc1VTZkVQampCWms3cSc7Il19Cg==\n"},
		{"bytes by their numbers", "a.pm", `$LAST_EXPIRE_MAGIC_TOKEN = "\015\001\007\011\003LASTEXPIRE";`},
		{"login that a program comes with, in a document", "api/index.html", "$ curl -i -u guest:guest http://localhost:15672/api/x\n"},
		{"login that a program comes with", "a.sh", "curl -i -u guest:guest http://localhost:15672/api/x\n"},
		{"key of a map", "messages.json", `{"auth": "x", "7e287fc885d9fdcf42da3a12f38572c1": "Authorization Required"}`},
		{"signs in order", "influx.conf", "//auth_token = \"ABCDEvwxyz0189-_\"\n"},
		{"made up", "a.py", "password: '1234abcd'\n"},
		{"description of a package", "lib/PyJWT.egg-info/PKG-INFO", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzb21lIjoicGF5bG9hZCJ9.4twFt5NiznN84AWoo1d7KO1T_yoc0Z6XOpOVswacPZg\n"},
		{"type of an argument", "a.py", "password: \"Optional[str]\" = None,\n"},
		{"name with a version", "a.py", `"a": {"key": "facilityIPv4Prefix", "type": "str"}, "b": {"key": "enableRootCertificateV2"}`},
		{"name of a class", "a.py", `"Credential": "PSCredentialExecutionParameter"`},
		{"name of a class beside a product", "a.py", "ConfluentSchemaRegistry, SelfHostedServer\n"},
		{"key of an emulator", "a.py", `c = "AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"`},
		{"public key of the web", "jwks.json", `{"keys": [{"kty": "RSA", "kid": "a", "e": "AQAB", "n": "§§§§§"}]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := e.Find(context.Background(), secret.File{Path: tc.path}, strings.NewReader(strings.ReplaceAll(tc.text, "§", drawn(3))))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range found {
				if f := secret.Finding(s, time.Now()); f.Severity >= finding.Medium {
					t.Errorf("%s of %q, %s: %s", s.Rule, s.Name, f.Severity, tc.text)
				}
			}
		})
	}
}

// What stands beside a text for people, and what only looks like one, is told.
func TestNotForPeople(t *testing.T) {
	e := engine(t)
	for _, tc := range []struct{ name, path, text string }{
		{"behind a docstring", "a.py", "def f():\n    \"\"\"Connects.\"\"\"\n    password = '§'\n"},
		{"text that is an argument", "a.py", "run(\n    \"\"\"\n    password: '§'\n    \"\"\")\n"},
		{"text with a name", "a.py", "SETTINGS = '''\npassword: \"§\"\n'''\n"},
		{"quotes in a comment", "a.py", "# don't say \"\"\" here\npassword = '§'\n"},
		{"last argument of a call", "A.java", `props.put("password", "§");`},
		{"initial value", "a.cc", `{"password", "§"}`},
		{"comment of a line", "a.js", "// password: '§'\n"},
		{"key in OpenSSH's form", "deploy_key", keysOf(t)["openssh"]},
		{"password of a key in base64", "a.yml", "data:\n  password: WmZRSjM5UmNzVVNmRVBqakJaazdx\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := e.Find(context.Background(), secret.File{Path: tc.path}, strings.NewReader(strings.ReplaceAll(tc.text, "§", drawn(3))))
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 || secret.Finding(found[0], time.Now()).Severity < finding.Medium {
				t.Errorf("found %v of %s", lines(found), tc.text)
			}
		})
	}
}
