package secret_test

import (
	"context"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/secret"
)

// spellings are ways in which people write a secret, § being it.
var spellings = []struct{ path, text string }{
	{"a.py", `password = "§"`},
	{"a.py", `PASSWORD: str = "§"`},
	{"a.py", `    'PASSWORD': '§',`},
	{"a.py", `connect(host="db", password="§")`},
	{"a.py", `os.environ["DB_PASSWORD"] = "§"`},
	{"a.py", `conn = f"x"; passwd='§'`},
	{"A.java", `String password = "§";`},
	{"A.java", `user.setPassword("§");`},
	{"A.java", `props.put("password", "§");`},
	{"A.java", `private static final String DB_PASS = "§";`},
	{"a.js", `const dbPassword = '§';`},
	{"a.js", "password: `§`,"},
	{"a.js", `{ user: "shop", pass: "§" }`},
	{"a.ts", `private readonly password: string = '§';`},
	{"a.php", `define('DB_PASSWORD', '§');`},
	{"a.php", `$config['db_password'] = '§';`},
	{"a.php", `'password' => '§',`},
	{"a.rb", `:password => "§"`},
	{"a.rb", `password: '§'`},
	{"a.go", `Password: "§",`},
	{"a.go", `const dbPassword = "§"`},
	{"a.go", `password := "§"`},
	{"a.c", `static const char *password = "§";`},
	{"a.c", `char password[] = "§";`},
	{"a.cs", `builder.Password = "§";`},
	{"web.config", `<add key="DbPassword" value="§" />`},
	{"web.config", `connectionString="Server=db;User ID=shop;Password=§;"`},
	{"beans.xml", `<property name="password" value="§"/>`},
	{"beans.xml", `<password>§</password>`},
	{"a.sh", `PGPASSWORD=§ psql -h db`},
	{"a.sh", `sshpass -p '§' ssh host`},
	{"a.sh", `mysql -u root -p'§' shop`},
	{"a.sh", `curl -u shop:§ https://repo.internal/`},
	{"a.sh", `curl -H "Authorization: Bearer §" https://api.internal/`},
	{"a.sh", `export TOKEN="§"`},
	{"a.sh", `DB_PASSWORD="${DB_PASSWORD:-§}"`},
	{"a.ini", `password = §`},
	{"a.properties", `db.password=§`},
	{"a.toml", `password = "§"`},
	{"a.yml", `- password: "§"`},
	{"a.json", `"client_secret": "§"`},
	{"a.tf", `  master_password = "§"`},
	{"a.sql", `CREATE USER shop WITH PASSWORD '§';`},
	{"a.sql", `ALTER USER shop IDENTIFIED BY '§';`},
	{"a.ps1", `$password = "§"`},
	{"stack.ts", `cdk.SecretValue.unsafePlainText('§')`},
	{"stack.py", `SecretValue.plain_text = SecretValue.plainText("§")`},
	{"a.ps1", `ConvertTo-SecureString "§" -AsPlainText -Force`},
	{"Jenkinsfile", `password: '§'`},
	{".git-credentials", `https://shop:§@git.internal`},
	{"a.env", `MONGO_URL=mongodb+srv://shop:§@cluster.internal/shop?retryWrites=true`},
	{"a.env", `REDIS_URL=redis://:§@cache:6379/0`},
	{"a.env", `CELERY_BROKER=amqp://shop:§@queue//`},
	{".pgpass", `db.internal:5432:shop:shop:§`},
}

// TestSpellings wants the secret of each of them, and where it stands.
func TestSpellings(t *testing.T) {
	e := engine(t)
	for _, s := range spellings {
		t.Run(s.path+" "+s.text, func(t *testing.T) {
			text := "x\n" + strings.ReplaceAll(s.text, "§", drawn(7)) + "\ny\n"
			found, err := e.Find(context.Background(), secret.File{Path: "app/" + s.path}, strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			at := strings.Index(s.text, "§") + 1
			if len(found) == 1 && found[0].Rule == "curl-auth-user" {
				found[0].Column, found[0].Length = found[0].Column+len("shop:"), found[0].Length-len("shop:") // its value has the user
			}
			if len(found) != 1 || found[0].Line != 2 || found[0].Column != at || found[0].Length != len(drawn(7)) {
				t.Errorf("found %v, want one at 2:%d", lines(found), at)
			}
		})
	}
}
