package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"sluice"
	"sluice/connector/awsiot/awsiottest"
)

type awsLocalCommand struct {
	Listen  string `default:"127.0.0.1:8883" placeholder:"ADDR" help:"Address of the MQTT broker (default ${default})."`
	Control string `default:"127.0.0.1:8884" placeholder:"ADDR" help:"Address of the registry API (default ${default})."`
	JSON    bool   `name:"json" help:"Print one line of JSON: the whole configuration, with endpoints, keys and PEMs."`
}

func (c *awsLocalCommand) Run(p *process) error {
	server, err := awsiottest.NewServer(awsiottest.Options{Addr: c.Listen, ControlAddr: c.Control})
	if err != nil {
		return cannotListen(err)
	}
	defer server.Close()
	configuration := server.Configuration()
	if c.JSON {
		line, err := json.Marshal(configuration)
		if err != nil {
			return err
		}
		fmt.Fprintln(p.out, string(line))
	} else {
		body, err := json.MarshalIndent(map[string]any{
			"connectorId": "actility-aws-iot", "name": "AWS emulator", "configuration": configuration,
		}, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(p.out, "AWS IoT emulator: MQTT over mutual TLS on %s, registry API on %s\n", server.MQTTAddr(), server.ControlURL())
		fmt.Fprintf(p.out, "HTTPS (publish and shadows): with a certificate on %s, signed on %s\n", server.Addr8443(), server.Addr443())
		fmt.Fprintf(p.out, "What AWS has at port 443 (MQTT by ALPN x-amzn-mqtt-ca, MQTT over WebSocket): %s\n", server.Addr443())
		fmt.Fprintf(p.out, "AWS command line: AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s aws iot list-things --region %s --endpoint-url %s\n",
			configuration.AccessKeyID, configuration.SecretAccessKey, configuration.Region, server.ControlURL())
		fmt.Fprintf(p.out, "For MQTT over WebSocket or for HTTPS, add \"protocol\": \"WSS\" or \"HTTPS\" to the configuration.\n"+
			"\nPOST /connections with:\n\n%s\n\nIt keeps nothing: what it knows ends with it. Ctrl-C stops it.\n", body)
	}
	<-p.ctx.Done()
	return nil
}

// cannotListen says which flags help where an address cannot be listened on.
func cannotListen(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "listen" {
		return err
	}
	return &sluice.Error{
		Code:    sluice.CodeConflict,
		Message: fmt.Sprintf("cannot listen on %s", op.Addr),
		Hint:    "Another program uses the address, or it is not this machine's. Choose others with --listen and --control.",
		Err:     op.Err,
	}
}
