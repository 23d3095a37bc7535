package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sluice/bench/load"
)

const nameMosquitto = "Mosquitto bridge, tuned queue"

// findMosquitto finds the program, "" where it is not installed.
func findMosquitto() string {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// mosquitto is Mosquitto as a bridge to the sink. It takes no reports over
// HTTP, so the load publishes them with QoS 1. Its queue has no bound, and is
// written to disk at its end and every 30 minutes, as by default.
func mosquitto(program string) *system {
	return &system{name: nameMosquitto, forgetful: true, launch: func(ctx context.Context, b *bed) error {
		if b.process == nil {
			if err := writeMosquitto(b); err != nil {
				return err
			}
		}
		return launchMosquitto(ctx, b, program)
	}}
}

func writeMosquitto(b *bed) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	papers := b.sink.Papers()
	in := func(name string) string { return filepath.Join(b.dir, name) }
	config := fmt.Sprintf(`user root
allow_anonymous true
connection_messages false
listener %d 127.0.0.1
persistence true
persistence_location %s/
max_queued_messages 0
max_inflight_messages 100
connection sink
address %s
bridge_cafile %s
bridge_certfile %s
bridge_keyfile %s
bridge_protocol_version mqttv311
cleansession false
notifications false
try_private false
restart_timeout 1
topic # out 1
`, port, b.dir, b.sink.Addr(), in("ca.pem"), in("cert.pem"), in("key.pem"))
	b.aim(load.Target{Broker: fmt.Sprintf("127.0.0.1:%d", port)})
	return errors.Join(
		os.WriteFile(in("ca.pem"), []byte(papers.CA), 0o600),
		os.WriteFile(in("cert.pem"), []byte(papers.Certificate), 0o600),
		os.WriteFile(in("key.pem"), []byte(papers.PrivateKey), 0o600),
		os.WriteFile(in("mosquitto.conf"), []byte(config), 0o600),
	)
}

func launchMosquitto(ctx context.Context, b *bed, program string) error {
	cmd := exec.Command(program, "-c", filepath.Join(b.dir, "mosquitto.conf"))
	p, err := start(cmd, filepath.Join(b.dir, "log.txt"))
	if err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	p.stranger = true
	first := b.process == nil
	b.process = p
	err = await(ctx, 20*time.Second, func() bool {
		conn, err := net.DialTimeout("tcp", b.where().Broker, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil && (!first || b.sink.Sessions() > 0)
	})
	if err != nil {
		said, _ := os.ReadFile(filepath.Join(b.dir, "log.txt"))
		return fmt.Errorf("mosquitto does not come up: %w\n%s", err, said)
	}
	return nil
}
