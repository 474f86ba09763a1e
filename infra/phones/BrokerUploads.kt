package example.uploads

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.RandomAccessFile
import java.net.HttpURLConnection
import java.net.URL
import java.util.UUID
import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** The broker or S3 refused the upload for good; the message says why. */
class Refused(message: String) : Exception(message)

/**
 * Resumable uploads of videos through the broker. Each upload is a file in [folder] until it is ready, so that it goes on
 * after any end of the app: call [run] again, from a WorkManager worker or at the next start.
 *
 * [prefix] is the address of the broker's routes; [token] returns the user's current token, and may block. [retryMillis] is
 * the first pause before a retry; each further one is longer by as much.
 */
class BrokerUploads(
    private val folder: File,
    private val prefix: String,
    private val retryMillis: Long = 1000,
    private val token: () -> String,
) {

    /** Record an upload of [video], which must stay unchanged until it is ready. Return its id for [run]. */
    fun add(video: File, contentType: String): String {
        val id = UUID.randomUUID().toString()
        folder.mkdirs()
        save(id, JSONObject().put("video", video.path).put("size", video.length()).put("type", contentType))
        return id
    }

    /** Return the ids of the uploads that are not ready yet. */
    fun unfinished(): List<String> = folder.list().orEmpty().filter { it.endsWith(".json") }.map { it.removeSuffix(".json") }

    /**
     * Upload what is missing, complete the upload, and return the media's id. [progress] gets the numbers of arrived and of
     * all parts. Throws IOException if a later run may succeed, and Refused if none can.
     */
    fun run(id: String, progress: (Int, Int) -> Unit = { _, _ -> }): String {
        val upload = JSONObject(file(id).readText())
        try {
            if (!upload.has("media_id")) issue(id, upload)
            sendMissingParts(id, upload, progress)
            complete(upload)
        } catch (error: Refused) {
            file(id).delete()
            throw error
        } catch (error: JSONException) {
            throw foreign(error)
        }
        file(id).delete()
        return upload.getString("media_id")
    }

    /** Delete the media, if there is one, and forget the upload; its [run] ends with Refused. */
    fun cancel(id: String) {
        val upload = synchronized(RECORDS) {
            JSONObject(file(id).readText()).also { if (!it.has("media_id")) file(id).delete() }
        }
        if (upload.has("media_id")) delete(upload)
        file(id).delete()
    }

    /** A media that is not there, because the answer to an earlier try was lost, is deleted too. */
    private fun delete(upload: JSONObject) {
        call("DELETE", "$prefix/${upload.getString("media_id")}", null, accepted = 404)
    }

    /** The id is the Idempotency-Key: a repeated request gets the same media, also if its answer was lost. */
    private fun issue(id: String, upload: JSONObject) {
        val body = JSONObject().put("content_type", upload.getString("type")).put("size", upload.getLong("size"))
        val issued = call("POST", "$prefix/upload", body.put("resumable", true), id)
        for (name in listOf("media_id", "parts_url", "complete_url")) upload.put(name, issued.getString(name))
        val wanted = synchronized(RECORDS) { file(id).exists().also { if (it) save(id, upload) } }
        if (!wanted) {
            delete(upload)
            throw cancelled()
        }
    }

    private fun sendMissingParts(id: String, upload: JSONObject, progress: (Int, Int) -> Unit) {
        val video = File(upload.getString("video"))
        val senders = Executors.newFixedThreadPool(AT_ONCE)
        var from = 1
        var before = -1
        var inVain = 0 // rounds in a row after which no further part has arrived
        try {
            while (true) {
                val asked = System.nanoTime()
                val page = call("GET", "${upload.getString("parts_url")}?from=$from&limit=1000&forms=$FORMS", null)
                val parts = page.getJSONObject("parts")
                val arrived = from - 1 + parts.getJSONArray("arrived").length()
                progress(arrived, parts.getInt("count"))
                var forms = parts.getJSONArray("forms").objects()
                if (forms.isEmpty()) {
                    from = if (parts.isNull("next_from")) return else parts.getInt("next_from")
                    continue
                }
                inVain = if (arrived > before) 0 else inVain + 1
                before = arrived
                if (inVain == TRIES) throw IOException("S3 stores no further part.")
                if (inVain > 0) {
                    Thread.sleep(retryMillis * inVain)
                    forms = forms.take(1) // S3 may refuse every part, so one is enough to try
                }
                // S3 refuses an expired form only after its bytes were sent; the next page has fresh forms.
                val usable = usableMillis(page.getLong("expires_in")) * 1_000_000
                val sends = forms.map { form ->
                    Callable {
                        if (!file(id).exists()) throw cancelled()
                        if (System.nanoTime() - asked < usable) send(video, parts, form)
                    }
                }
                senders.invokeAll(sends).forEach { it.result() }
            }
        } finally {
            senders.shutdownNow()
        }
    }

    /** Return for how long after its request a form is begun: the clocks and the way to S3 take some of its lifetime. */
    private fun usableMillis(expiresIn: Long) = maxOf(expiresIn * 500, expiresIn * 1000 - 30_000)

    /**
     * Post one part: the common fields, its own, then exactly its bytes, streamed from the video. Return also if S3 may accept
     * the part later or by a fresh form. Throws Refused if it never will.
     */
    private fun send(video: File, parts: JSONObject, form: JSONObject) {
        if (!video.exists()) throw Refused("The video is gone.")
        val boundary = UUID.randomUUID().toString()
        val head = StringBuilder()
        for (fields in listOf(parts.getJSONObject("fields"), form.getJSONObject("fields"))) {
            for (name in fields.keys()) {
                head.append("--$boundary\r\nContent-Disposition: form-data; name=\"$name\"\r\n\r\n${fields.getString(name)}\r\n")
            }
        }
        head.append("--$boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n")
        val first = head.toString().toByteArray()
        val last = "\r\n--$boundary--\r\n".toByteArray()
        val size = form.getLong("size")

        val connection = open("POST", parts.getString("url"))
        connection.setFixedLengthStreamingMode(first.size + size + last.size)
        connection.setRequestProperty("Content-Type", "multipart/form-data; boundary=$boundary")
        connection.doOutput = true
        try {
            connection.outputStream.use { output ->
                output.write(first)
                RandomAccessFile(video, "r").use { input ->
                    input.seek((form.getInt("number") - 1) * parts.getLong("part_size"))
                    val buffer = ByteArray(64 * 1024)
                    var left = size
                    while (left > 0) {
                        val count = input.read(buffer, 0, minOf(left, buffer.size.toLong()).toInt())
                        if (count < 0) throw Refused("The video became shorter.")
                        output.write(buffer, 0, count)
                        left -= count
                    }
                }
                output.write(last)
            }
            val status = connection.responseCode
            if (status == 201 || status == 403 || status in RETRIED || status >= 500) return
            val error = connection.errorStream?.bufferedReader()?.use { it.readText() }.orEmpty()
            if (RETRIED_BY_S3.none { "<Code>$it</Code>" in error }) throw Refused("S3 answers $status.")
        } finally {
            connection.disconnect()
        }
    }

    private fun complete(upload: JSONObject) {
        for (attempt in 1..TRIES) {
            val answer = call("POST", upload.getString("complete_url"), null, accepted = 409)
            if (answer.optInt("status") != 409) return
            Thread.sleep(retryMillis * attempt)
        }
        throw IOException("The upload is still being confirmed.")
    }

    /**
     * Return the broker's answer, also one of the status [accepted]. Throws IOException for 401, 408, 409, 429 and 5xx, and
     * Refused for any other problem.
     */
    private fun call(method: String, url: String, body: JSONObject?, key: String? = null, accepted: Int? = null): JSONObject {
        val connection = open(method, url)
        connection.setRequestProperty("Authorization", "Bearer ${token()}")
        if (key != null) connection.setRequestProperty("Idempotency-Key", key)
        if (body != null) {
            connection.doOutput = true
            connection.setRequestProperty("Content-Type", "application/json")
            connection.outputStream.use { it.write(body.toString().toByteArray()) }
        }
        try {
            val status = connection.responseCode
            val text = (if (status < 400) connection.inputStream else connection.errorStream)?.bufferedReader()?.use { it.readText() }
            if (status < 400 || status == accepted) return answer(text ?: "{}")
            val problem = runCatching { JSONObject(text ?: "").getString("detail") }.getOrDefault("The broker answers $status.")
            if (status in RETRIED || status >= 500) throw IOException(problem)
            throw Refused(problem)
        } finally {
            connection.disconnect()
        }
    }

    private fun answer(text: String): JSONObject = try {
        JSONObject(text)
    } catch (error: JSONException) {
        throw foreign(error)
    }

    /** Such a page comes from something between app and broker, for example the login of a hotel's network. */
    private fun foreign(error: JSONException) = IOException("The answer is not the broker's.", error)

    private fun cancelled() = Refused("The upload was cancelled.")

    private fun open(method: String, url: String): HttpURLConnection {
        val connection = URL(url).openConnection() as HttpURLConnection
        connection.requestMethod = method
        connection.connectTimeout = TIMEOUT_MILLIS
        connection.readTimeout = TIMEOUT_MILLIS
        return connection
    }

    private fun file(id: String) = File(folder, "$id.json")

    /** Write a new file and rename it: an app that ends meanwhile leaves the old one. */
    private fun save(id: String, upload: JSONObject) {
        val written = File(folder, "$id.new")
        FileOutputStream(written).use {
            it.write(upload.toString().toByteArray())
            it.fd.sync() // or the new name may show an empty file after the battery is empty
        }
        if (!written.renameTo(file(id))) throw IOException("cannot write to $folder")
    }

    private fun JSONArray.objects(): List<JSONObject> = (0 until length()).map { getJSONObject(it) }

    private fun java.util.concurrent.Future<*>.result() {
        try {
            get()
        } catch (error: ExecutionException) {
            throw error.cause ?: error
        }
    }

    private companion object {
        const val AT_ONCE = 3
        const val FORMS = 12
        const val TRIES = 10
        const val TIMEOUT_MILLIS = 60_000
        val RECORDS = Any() // the lock under which records are read and written
        val RETRIED = setOf(401, 408, 409, 429)
        val RETRIED_BY_S3 = setOf("ExpiredToken", "RequestTimeout", "SlowDown")
    }
}
