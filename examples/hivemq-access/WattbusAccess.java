import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission.MqttActivity;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission.PermissionType;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission.Retain;
import com.hivemq.extension.sdk.api.client.parameter.ClientTlsInformation;
import com.hivemq.extension.sdk.api.events.client.ClientLifecycleEventListener;
import com.hivemq.extension.sdk.api.events.client.parameters.AuthenticationSuccessfulInput;
import com.hivemq.extension.sdk.api.events.client.parameters.ConnectionStartInput;
import com.hivemq.extension.sdk.api.events.client.parameters.DisconnectEventInput;
import com.hivemq.extension.sdk.api.interceptor.connect.ConnectInboundInterceptor;
import com.hivemq.extension.sdk.api.packets.auth.DefaultAuthorizationBehaviour;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.packets.disconnect.DisconnectReasonCode;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import javax.naming.InvalidNameException;
import javax.naming.ldap.LdapName;
import javax.naming.ldap.Rdn;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lets in who has a certificate, and does what the file `access.txt` of the extension's folder says.
 *
 * <p>The file is read again each second. Who is in it no more, or with other rights, is disconnected. A file that
 * can't be read, or is cut short, changes nothing; before there was a good one, nobody comes in.
 */
public final class WattbusAccess implements ExtensionMain {

    private static final Logger LOG = LoggerFactory.getLogger(WattbusAccess.class);
    private static final int LOOK_EVERY_S = 1;
    private static final String GRANT = "wattbus-access-grant";
    private static final Set<String> KINDS = Set.of("client", "publish", "retain", "subscribe");

    /** What the file says: each user's lines, and to which users the client ids belong. */
    private static final class Rules {
        final Map<String, List<String>> lines = new HashMap<>();
        final Map<String, Set<String>> owners = new HashMap<>();

        /** A client id is its users' alone; one that is nobody's is for who has a line that ends in `*`. */
        boolean mayUse(final String user, final String client) {
            final Set<String> those = owners.get(client);
            return those != null
                    ? those.contains(user)
                    : lines.get(user).stream().anyMatch(line -> line.startsWith("client ")
                            && line.endsWith("*")
                            && client.startsWith(line.substring(7, line.length() - 1)));
        }
    }

    /** What one connection was given; its id stands among the connection's attributes. */
    private static final class Grant {
        final String id = UUID.randomUUID().toString();
        final String user;
        final List<String> lines;

        Grant(final String user, final List<String> lines) {
            this.user = user;
            this.lines = lines;
        }
    }

    /** Takes back what a connection was given when it ends, however it ends. */
    private final class Ended implements ClientLifecycleEventListener {
        @Override
        public void onMqttConnectionStart(final ConnectionStartInput input) {}

        @Override
        public void onAuthenticationSuccessful(final AuthenticationSuccessfulInput input) {}

        @Override
        public void onDisconnect(final DisconnectEventInput input) {
            final String id = input.getConnectionInformation()
                    .getConnectionAttributeStore()
                    .getAsString(GRANT)
                    .orElse("");
            // Not what the client has got meanwhile, on a connection that took this one's place.
            granted.computeIfPresent(
                    input.getClientInformation().getClientId(), (client, grant) -> grant.id.equals(id) ? null : grant);
        }
    }

    private final Map<String, Grant> granted = new ConcurrentHashMap<>(); // by client id, of who is connected
    private volatile Rules rules = new Rules();
    private String text = "";
    private Path file;

    @Override
    public void extensionStart(final ExtensionStartInput input, final ExtensionStartOutput output) {
        file = input.getExtensionInformation().getExtensionHomeFolder().toPath().resolve("access.txt");
        look();
        final SimpleAuthenticator authenticator = this::authenticate;
        Services.securityRegistry().setAuthenticatorProvider(ignored -> authenticator);
        final ClientLifecycleEventListener ended = new Ended();
        Services.eventRegistry().setClientLifecycleEventListener(ignored -> ended);
        final ConnectInboundInterceptor interceptor = (connect, changed) -> {
            // Who may choose a client id could otherwise leave any number of sessions behind, each with a queue.
            if (!rules.owners.containsKey(connect.getClientInformation().getClientId())) {
                changed.getConnectPacket().setSessionExpiryInterval(0);
            }
        };
        Services.interceptorRegistry().setConnectInboundInterceptorProvider(ignored -> interceptor);
        Services.extensionExecutorService()
                .scheduleWithFixedDelay(this::look, LOOK_EVERY_S, LOOK_EVERY_S, TimeUnit.SECONDS);
    }

    @Override
    public void extensionStop(final ExtensionStopInput input, final ExtensionStopOutput output) {
        LOG.warn("wattbus access is stopped: HiveMQ lets nobody in whom no other extension knows");
    }

    private void authenticate(final SimpleAuthInput input, final SimpleAuthOutput output) {
        final Rules now = rules;
        final String client = input.getClientInformation().getClientId();
        final String user = input.getConnectionInformation().getClientTlsInformation()
                .flatMap(ClientTlsInformation::getClientCertificate)
                .map(WattbusAccess::commonName)
                .orElse("");
        final List<String> lines = now.lines.get(user);
        if (lines == null) {
            refuse(output, client, user, "no such account: has it been revoked?");
        } else if (!now.mayUse(user, client)) {
            refuse(output, client, user, "the client id is not this account's");
        } else {
            output.getDefaultPermissions().addAll(permissions(lines));
            output.getDefaultPermissions().setDefaultBehaviour(DefaultAuthorizationBehaviour.DENY);
            final Grant grant = new Grant(user, lines);
            input.getConnectionInformation().getConnectionAttributeStore().putAsString(GRANT, grant.id);
            granted.put(client, grant);
            output.authenticateSuccessfully();
        }
    }

    private static void refuse(
            final SimpleAuthOutput output, final String client, final String user, final String why) {
        LOG.info("refused client '{}' of user '{}': {}", client, user, why);
        output.failAuthentication(ConnackReasonCode.NOT_AUTHORIZED, why);
    }

    private static List<TopicPermission> permissions(final List<String> lines) {
        final List<TopicPermission> wanted = new ArrayList<>();
        for (final String line : lines) {
            final String[] words = line.split(" ", 2);
            if (!words[0].equals("client")) {
                wanted.add(Builders.topicPermission()
                        .topicFilter(words[1])
                        .activity(words[0].equals("subscribe") ? MqttActivity.SUBSCRIBE : MqttActivity.PUBLISH)
                        .retain(words[0].equals("publish") ? Retain.NOT_RETAINED : Retain.ALL)
                        .type(PermissionType.ALLOW)
                        .build());
            }
        }
        return wanted;
    }

    private static String commonName(final X509Certificate certificate) {
        try {
            for (final Rdn part : new LdapName(certificate.getSubjectX500Principal().getName()).getRdns()) {
                if (part.getType().equalsIgnoreCase("CN")) {
                    return part.getValue().toString();
                }
            }
        } catch (final InvalidNameException e) {
            LOG.info("a certificate's name can't be read: {}", e.getMessage());
        }
        return "";
    }

    private void look() {
        try {
            final String fresh = Files.readString(file);
            if (!fresh.equals(text)) {
                rules = parse(fresh);
                text = fresh;
                LOG.info("{} users may come in, {} clients are in", rules.lines.size(), granted.size());
            }
        } catch (final IOException | IllegalArgumentException e) {
            LOG.error("{} can't be used, and nothing changes: {}", file, e.toString());
        }
        final Rules now = rules;
        granted.forEach((client, grant) -> {
            if (!grant.lines.equals(now.lines.get(grant.user))) {
                disconnect(client, grant);
            }
        });
    }

    /** Disconnect a client whose rights are no longer what they were; again at each look, until it has gone. */
    private static void disconnect(final String client, final Grant grant) {
        Services.clientService()
                .disconnectClient(client, false, DisconnectReasonCode.NOT_AUTHORIZED, "its rights have changed")
                .whenComplete((done, error) -> {
                    if (error != null) {
                        LOG.error("'{}' of '{}' can't be disconnected yet: {}", client, grant.user, error.toString());
                    } else if (done) {
                        LOG.info("disconnected '{}' of '{}'", client, grant.user);
                    }
                    // Else it may still be on its way into HiveMQ's books.
                });
    }

    private static Rules parse(final String content) {
        final Rules read = new Rules();
        if (!("\n" + content).endsWith("\nend\n")) {
            throw new IllegalArgumentException("its last line is not `end`: it is not whole");
        }
        String user = null;
        for (final String line : content.split("\n")) {
            final String[] words = line.split(" ");
            if (line.equals("end")) {
                break;
            } else if (words.length != 2) {
                throw new IllegalArgumentException("two words are expected: " + line);
            } else if (words[0].equals("user")) {
                user = words[1];
                read.lines.put(user, new ArrayList<>());
            } else if (user == null || !KINDS.contains(words[0])) {
                throw new IllegalArgumentException("not expected here: " + line);
            } else {
                read.lines.get(user).add(line);
                if (words[0].equals("client")) {
                    read.owners.computeIfAbsent(words[1], ignored -> new HashSet<>()).add(user);
                }
            }
        }
        return read;
    }
}
