package aws

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/castellan-security/castellan/internal/fault"
)

// maxSecret bounds a secret: a token has some dozens of bytes.
const maxSecret = 16 << 10

// Secret returns the text of a secret: one of Secrets Manager by its ARN, or a
// parameter of Systems Manager by its ARN or as /PATH. It needs the permission
// secretsmanager:GetSecretValue or ssm:GetParameter.
func Secret(ctx context.Context, name string, log *slog.Logger) (string, error) {
	what := "read secret " + name
	s := session{log: log}
	config, err := s.open(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := request(ctx)
	defer cancel()
	var text string
	part := strings.SplitN(name, ":", 7)
	switch {
	case len(part) == 7 && part[0] == "arn" && part[2] == "secretsmanager":
		out, err := secretsmanager.NewFromConfig(config).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: sdk.String(name)})
		if err != nil {
			return "", refused(what, err, "secretsmanager:GetSecretValue", "secretsmanager")
		}
		text = sdk.ToString(out.SecretString)
	case len(part) == 6 && part[0] == "arn" && part[2] == "ssm", strings.HasPrefix(name, "/"):
		out, err := ssm.NewFromConfig(config).GetParameter(ctx, &ssm.GetParameterInput{Name: sdk.String(name), WithDecryption: sdk.Bool(true)})
		if err != nil {
			return "", refused(what, err, "ssm:GetParameter", "ssm")
		}
		if out.Parameter != nil {
			text = sdk.ToString(out.Parameter.Value)
		}
	default:
		return "", fault.New(fault.Invalid, "%s: it is neither a secret of Secrets Manager nor a parameter of Systems Manager", what).
			With("name it by its ARN, a parameter also as /PATH")
	}
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxSecret {
		return "", fault.New(fault.Invalid, "%s: it is empty, or longer than %d bytes", what, maxSecret).With("put the text itself into it")
	}
	return text, nil
}
