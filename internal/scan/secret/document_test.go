package secret_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/secret"
)

// documents are what deploys containers. Each § stands for a secret of its own; a
// value that is none stands as it is.
var documents = map[string]string{
	"task-definition.json": `{
  "family": "shop",
  "containerDefinitions": [{
    "name": "web",
    "image": "shop:1",
    "environment": [
      {"name": "DB_HOST", "value": "db.internal"},
      {"name": "DB_PASSWORD", "value": "§"},
      {
        "value": "§",
        "name": "REDIS_PASSWORD"
      },
      {"name": "DATABASE_URL", "value": "postgres://shop:§@db.internal/shop"},
      {"name": "SESSION_SECRET", "value": "§"},
      {"name": "PASSWORD_FILE", "value": "/run/secrets/db-2"},
      {"name": "STRIPE_API_KEY", "value": "§"}
    ],
    "secrets": [{"name": "API_TOKEN", "valueFrom": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbC12"}],
    "command": ["serve", "--admin-password", "§", "--token=§"],
    "dockerLabels": {"deploy.token": "§", "version": "1.2.3"}
  }]
}`,
	"template.yaml": `Parameters:
  DbPassword:
    Type: String
    NoEcho: true
    Default: §
  ApiToken:
    Type: AWS::SSM::Parameter::Value<String>
    Default: /shop/token-1
Resources:
  Task:
    Type: AWS::ECS::TaskDefinition
    Properties:
      ContainerDefinitions:
        - Name: web
          Environment:
            - Name: DB_PASSWORD
              Value: §
            - {Name: SMTP_PASSWORD, Value: §}
            - Name: CACHE_PASSWORD
              Value: !Ref DbPassword
            - Value: "§"
              Name: OTHER_PASSWORD
          Secrets:
            - Name: API_TOKEN
              ValueFrom: !Ref ApiToken
  Database:
    Type: AWS::RDS::DBInstance
    Properties:
      MasterUserPassword: §
      MasterUsername: shop
  Function:
    Properties:
      Environment:
        Variables:
          AUTH_TOKEN: §
  Host:
    Properties:
      UserData:
        Fn::Base64: !Sub |
          #!/bin/bash
          export REGISTRY_PASSWORD='§'
          mysql -u root --password=§ shop
`,
	"template.json": `{"Parameters": {"DbPassword": {"Type": "String", "NoEcho": true, "Default": "§"}, "Plain": {"Type": "String", "Default": "x-1"}},
 "Resources": {"Task": {"Properties": {"ContainerDefinitions": [{"Environment": [{"Name": "DB_PASSWORD", "Value": "§"}, {"Name": "TOKEN", "Value": {"Ref": "Token"}}]}]}},
  "Db": {"Properties": {"MasterUserPassword": "§"}}, "Other": {"Properties": {"MasterUserPassword": {"Ref": "DbPassword"}}}}}`,
	"main.tf": `variable "db_password" {
  type      = string
  sensitive = true
  default   = "§"
}
variable "api_token" {
  type = string
}
resource "aws_db_instance" "shop" {
  username = "shop"
  password = "§"
}
resource "aws_db_instance" "right" {
  password = var.db_password
}
resource "aws_ecs_task_definition" "shop" {
  container_definitions = jsonencode([{
    name = "web"
    environment = [
      { name = "DB_PASSWORD", value = "§" },
      {
        name  = "QUEUE_PASSWORD"
        value = "§"
      },
      { name = "CACHE_PASSWORD", value = var.cache_password }
    ]
  }])
}
resource "aws_ecs_task_definition" "heredoc" {
  container_definitions = <<DEFS
[{"name": "web", "environment": [{"name": "MAIL_PASSWORD", "value": "§"}]}]
DEFS
}
`,
	"prod.tfvars":       "db_password = \"§\"\nregion = \"eu-west-1\"\n",
	"terraform.tfstate": `{"resources": [{"instances": [{"attributes": {"username": "shop", "password": "§", "password_wo": null}}]}]}`,
	"docker-compose.yml": `services:
  web:
    environment:
      DB_PASSWORD: §
      API_TOKEN: ${API_TOKEN}
      RAILS_SECRET_KEY_BASE: "§"
  db:
    environment:
      - POSTGRES_PASSWORD=§
      - "MYSQL_ROOT_PASSWORD=§"
      - PGDATA=/data
`,
	".env.production":  "DB_PASSWORD=§\nexport AUTH_SECRET=\"§\"\nSMTP_PASSWORD='§'\n# OLD_PASSWORD=changeme\n",
	"user-data.sh":     "#!/bin/bash\ndocker login -u shop --password §  registry.example\nexport DB_PASSWORD=§\nDB_PASSWORD=$(aws ssm get-parameter --name x)\n",
	"Dockerfile":       "FROM alpine\nARG DB_PASSWORD=§\nENV API_TOKEN=§ OTHER=1\nENV SMTP_PASSWORD §\nRUN curl -fsS https://shop:§@repo.internal/x -o /x\n",
	"application.yml":  "spring:\n  datasource:\n    username: shop\n    password: §\n    hikari:\n      password: ${DB_PASSWORD}\n",
	"appsettings.json": `{"ConnectionStrings": {"Default": "Server=db;Database=shop;User Id=shop;Password=§;Encrypt=true"}}`,
}

// drawn is the n-th secret: with letters, digits and signs as people's and
// machines' have.
func drawn(n int) string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
	b := make([]byte, 0, 20)
	x := uint64(n)*0x9e3779b97f4a7c15 + 0x1234567
	for range 18 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = append(b, letters[x%uint64(len(letters))])
	}
	return "Z" + string(b) + "7q"
}

// TestDocuments wants every planted secret, where it stands, and nothing else.
func TestDocuments(t *testing.T) {
	e := engine(t)
	total, n := 0, 0
	names := make([]string, 0, len(documents))
	for name := range documents {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			var want []string
			for i, part := range strings.Split(documents[name], "§") {
				if i > 0 {
					n++
					text := b.String()
					want = append(want, fmt.Sprintf("%d:%d", strings.Count(text, "\n")+1, len(text)-strings.LastIndexByte(text, '\n')))
					b.WriteString(drawn(n))
				}
				b.WriteString(part)
			}
			total += len(want)
			found, err := e.Find(context.Background(), secret.File{Path: "deploy/" + name}, strings.NewReader(b.String()))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				got = append(got, fmt.Sprintf("%d:%d", f.Line, f.Column))
				if f.Doubt != "" {
					t.Errorf("%s of %s at %d:%d: %s", f.Rule, f.Name, f.Line, f.Column, f.Doubt)
				}
			}
			slices.SortFunc(want, byPlace)
			if d := cmp.Diff(got, want); d != "" {
				t.Errorf("differs (-got +want):\n%s\n%s", d, b.String())
			}
		})
	}
	if total < 40 {
		t.Errorf("%d secrets were planted", total)
	}
}

func byPlace(a, b string) int {
	var al, ac, bl, bc int
	fmt.Sscanf(a, "%d:%d", &al, &ac) //nolint:errcheck // written above
	fmt.Sscanf(b, "%d:%d", &bl, &bc) //nolint:errcheck // written above
	return (al-bl)*10000 + ac - bc
}

// What is written in base64 is looked at too, and told where it stands.
func TestEncoded(t *testing.T) {
	inner := "#!/bin/bash\nexport DB_PASSWORD='" + drawn(99) + "'\n"
	text := "UserData: " + base64.StdEncoding.EncodeToString([]byte(inner)) + "\n"
	found, err := engine(t).Find(context.Background(), secret.File{Path: "stack.yaml"}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(lines(found), []string{"password 1:51 DB_PASSWORD #21"}); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
}
